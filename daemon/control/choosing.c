#include "choosing.h"

#include "daemon.h"
#include "environment.h"
#include "tuning.h"

#include <stdio.h>

/* Why the devices have no collective library; NULL: all have one, or there is nothing to say about devices yet. */
static const char *library_obstacle(const struct tcd_device *device)
{
    if (!device->known || device->facts.library)
        return NULL;
    return *device->facts.library_why ? device->facts.library_why : "NCCL cannot be loaded";
}

/* Every rank's kernels write into every other's memory. The first pair that cannot stands for all. */
static void check_peers(struct tcd_choosing *choosing, const struct tcd_device *const *devices, uint32_t count)
{
    uint32_t i, j;

    for (i = 0; i < count; i++)
        for (j = 0; j < count; j++)
            if (!*choosing->no_peers && !tcd_device_maps(devices[i], devices[j]))
                snprintf(choosing->no_peers, sizeof(choosing->no_peers),
                         "device %u cannot map the memory of device %u: these GPUs have no peer access", devices[i]->number,
                         devices[j]->number);
}

/* NVLink multicast is for who wants it, and for GPUs of their own that all have it. */
static void check_multicast(struct tcd_choosing *choosing, const struct tcd_daemon *daemon, const struct tcd_device *const *devices,
                            uint32_t count)
{
    char *why = choosing->no_multicast;
    uint32_t i, j;

    if (!daemon->config->options.multicast)
        snprintf(why, sizeof(choosing->no_multicast), "the configuration does not ask for it (multicast)");
    else if (tcd_environment_forbids_multicast(daemon->environment))
        snprintf(why, sizeof(choosing->no_multicast), "the environment of the daemon says NCCL_NVLS_ENABLE=0");
    for (i = 0; i < count; i++) {
        if (!*why && devices[i]->known && !devices[i]->facts.device.multicast)
            snprintf(why, sizeof(choosing->no_multicast), "device %u has none", devices[i]->number);
        for (j = 0; j < i; j++)
            if (!*why && devices[i] == devices[j])
                snprintf(why, sizeof(choosing->no_multicast), "ranks share device %u", devices[i]->number);
    }
}

/* The first one that is not what the tuning file was measured on. */
static void check_model(struct tcd_choosing *choosing, const struct tcd_device *const *devices, uint32_t count)
{
    uint32_t i;

    for (i = 0; i < count && !*choosing->other_gpu; i++)
        if (tcd_tuning_is_foreign(choosing->tuning, devices[i]))
            snprintf(choosing->other_gpu, sizeof(choosing->other_gpu), "device %u is %s", devices[i]->number,
                     devices[i]->facts.device.name);
}

/* NULL: the rank is of another node. */
static const struct tcd_device *local_device(const struct tcd_daemon *daemon, const struct tcf_rank *rank)
{
    uint32_t i;

    for (i = 0; i < daemon->device_count && rank->node == daemon->config->local_node; i++)
        if (daemon->devices[i].number == rank->device)
            return &daemon->devices[i];
    return NULL;
}

/* Of a group of the configuration, or of all devices: where nobody has joined yet. */
static void choose_for_nobody(struct tcd_choosing *choosing, const struct tcd_daemon *daemon, const struct tcf_group *wanted)
{
    const struct tcd_device *devices[TCW_MAX_RANKS];
    uint32_t count = 0, i;

    for (i = 0; i < choosing->nranks && i < (wanted ? wanted->size : daemon->device_count); i++) {
        const struct tcd_device *device = wanted ? local_device(daemon, &wanted->ranks[i]) : &daemon->devices[i];

        if (device && (!count || device->kind == devices[0]->kind))
            devices[count++] = device;
    }
    if (!count)
        return;
    choosing->kind = tcd_device_kind_of(devices[0]);
    choosing->no_library = choosing->kind == TCK_DEVICE_CUDA ? library_obstacle(devices[0]) : NULL;
    check_peers(choosing, devices, count);
    check_multicast(choosing, daemon, devices, count);
    check_model(choosing, devices, count);
}

void tcd_choosing_set(struct tcd_choosing *choosing, const struct tcd_daemon *daemon, const struct tcd_instance *instance,
                      const struct tcf_group *wanted, uint32_t nranks)
{
    const struct tcd_device *devices[TCW_MAX_RANKS];
    uint32_t i;

    *choosing = (struct tcd_choosing){.nranks = nranks,
                                      .direct_ranks = instance ? 0 : UINT64_MAX,
                                      .served_ranks = instance ? 0 : UINT64_MAX,
                                      .lane = wanted ? (uint32_t)wanted->lane : TCW_LANE_AUTO,
                                      .strategy = wanted ? (uint32_t)wanted->strategy : TCW_STRATEGY_AUTO,
                                      .oneshot_bytes = daemon->config->options.served_oneshot_bytes,
                                      .tuning = daemon->config->tuning,
                                      .served_kernels_bytes = daemon->config->options.served_kernels_bytes,
                                      .max_workspace_bytes = daemon->config->options.max_workspace_bytes};
    if (!instance)
        choose_for_nobody(choosing, daemon, wanted);
    for (i = 0; instance && i < instance->size; i++) {
        const struct tcd_client *client = instance->members[i].client;
        const struct tcd_device *device = instance->members[i].device;

        devices[i] = device;
        choosing->kind = tcd_device_kind_of(device);
        if (choosing->kind == TCK_DEVICE_CUDA && !choosing->no_library)
            choosing->no_library = library_obstacle(device);
        if (client && (client->features & TCW_FEATURE_DIRECT))
            choosing->direct_ranks |= 1ull << i;
        if (client && (client->features & TCW_FEATURE_SERVED))
            choosing->served_ranks |= 1ull << i;
    }
    if (instance) {
        check_peers(choosing, devices, instance->size);
        check_multicast(choosing, daemon, devices, instance->size);
        check_model(choosing, devices, instance->size);
    }
}
