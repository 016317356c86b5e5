#include "gpus.h"

#include <stdio.h>
#include <string.h>

static const uint64_t STILL_NS = 200000000; /* the pages are looked at every 100 ms */

/* ---- GPUs ---- */

static bool is_known(const struct tcw_stats_device *device)
{
    return device->known == 1;
}

struct tcc_text tcc_gpu_library(const struct tcw_stats_device *device)
{
    unsigned library = (unsigned)tcc_or_zero(device->library);
    struct tcc_text text = {"none"};

    if (library)
        snprintf(text.s, sizeof text.s, "%u.%u.%u", library / 10000, library / 100 % 100, library % 100);
    return text;
}

/* "NVIDIA H200, SM 9.0, 141 GiB, driver 13.0, NCCL 2.28.9" */
static void describe(const struct tcw_stats_device *device, char *text, size_t bytes)
{
    unsigned compute = (unsigned)device->compute, driver = (unsigned)device->driver;
    int used = snprintf(text, bytes, "%s, SM %u.%u, %s, driver %u.%u, ", tcc_dash(device->gpu), compute / 10, compute % 10,
                        tcc_bytes(device->gpu_memory_bytes).s, driver / 1000, driver % 1000 / 10);

    if (used < 0 || (size_t)used >= bytes)
        return;
    if (device->library)
        snprintf(text + used, bytes - (size_t)used, "NCCL %s%s%s", tcc_gpu_library(device).s, device->mps ? ", MPS" : "",
                 device->fabric ? ", fabric" : "");
    else
        snprintf(text + used, bytes - (size_t)used, "no NCCL (%s)%s%s", tcc_dash(device->library_why), device->mps ? ", MPS" : "",
                 device->fabric ? ", fabric" : "");
}

/* One line for each set of GPUs that some cannot map. */
static void print_unmapped(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    uint64_t shown = 0;

    for (size_t i = 0; i < snapshot->device_count; i++) {
        uint64_t bits = tcc_or_zero(snapshot->devices[i].unmapped_bits), alike = 0;

        if (!bits || shown >> (snapshot->devices[i].device & 63) & 1)
            continue;
        for (size_t j = i; j < snapshot->device_count; j++)
            if (tcc_or_zero(snapshot->devices[j].unmapped_bits) == bits)
                alike |= 1ull << (snapshot->devices[j].device & 63);
        tcc_print(&session->out, TCC_BOLD, "  %-8s", shown ? "" : "peers");
        tcc_print(&session->out, TCC_WARN, "    %s cannot map the memory of %s", tcc_ranks(alike).s, tcc_ranks(bits).s);
        fputs(": NCCL alone serves groups that have both\n", session->out.file);
        shown |= alike;
    }
}

void tcc_gpus_print(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    uint64_t shown = 0;

    for (size_t i = 0; i < snapshot->device_count; i++) {
        char text[300], other[300];
        uint64_t alike = 0;

        if (!is_known(&snapshot->devices[i]) || shown >> (snapshot->devices[i].device & 63) & 1)
            continue;
        describe(&snapshot->devices[i], text, sizeof text);
        for (size_t j = i; j < snapshot->device_count; j++) {
            if (!is_known(&snapshot->devices[j]))
                continue;
            describe(&snapshot->devices[j], other, sizeof other);
            if (strcmp(text, other) == 0)
                alike |= 1ull << (snapshot->devices[j].device & 63);
        }
        tcc_print(&session->out, TCC_BOLD, "  %-8s", shown ? "" : "gpus");
        fprintf(session->out.file, "%3d ", __builtin_popcountll(alike));
        fprintf(session->out.file, "%s: %s\n", tcc_ranks(alike).s, text);
        shown |= alike;
    }
    print_unmapped(session, snapshot);
    if (shown && *snapshot->daemon.environment) {
        tcc_print(&session->out, TCC_BOLD, "  %-8s", "started");
        fputs("  with ", session->out.file);
        tcc_print_wrapped(&session->out, TCC_PLAIN, 17, 12, snapshot->daemon.environment);
    }
}

void tcc_gpu_json(cJSON *item, const struct tcw_stats_device *device)
{
    cJSON *gpu, *unmapped;

    tcc_json_text(item, "problem", *device->problem ? device->problem : NULL);
    if (!is_known(device)) {
        cJSON_AddNullToObject(item, "gpu");
        return;
    }
    gpu = tcc_json_object(item, "gpu");
    tcc_json_text(gpu, "name", device->gpu);
    tcc_json_text(gpu, "uuid", device->uuid);
    tcc_json_text(gpu, "pci", device->pci);
    tcc_json_u64(gpu, "compute", device->compute);
    tcc_json_u64(gpu, "multiprocessors", device->multiprocessors);
    tcc_json_u64(gpu, "memory_bytes", device->gpu_memory_bytes);
    tcc_json_u64(gpu, "driver", device->driver);
    tcc_json_u64(gpu, "nccl", tcc_or_zero(device->library) ? device->library : TCC_ABSENT);
    tcc_json_text(gpu, "nccl_why", *device->library_why ? device->library_why : NULL);
    tcc_json_bool(gpu, "mps", tcc_or_zero(device->mps) != 0);
    tcc_json_bool(gpu, "fabric", tcc_or_zero(device->fabric) != 0);
    tcc_json_text(gpu, "fabric_why", *device->fabric_why ? device->fabric_why : NULL);
    tcc_json_bool(gpu, "fd_export", tcc_or_zero(device->fd_export) != 0);
    tcc_json_bool(gpu, "stream_words", tcc_or_zero(device->stream_words) != 0);
    unmapped = tcc_json_array(gpu, "cannot_map");
    for (int i = 0; i < 64; i++)
        if (tcc_or_zero(device->unmapped_bits) >> i & 1)
            cJSON_AddItemToArray(unmapped, cJSON_CreateNumber(i));
}

/* ---- communicators ---- */

enum { QUEUED, MAKING, READY, ENDED }; /* as the segment numbers their states */

static const char *state_name(uint64_t state)
{
    static const char *const names[] = {"queued", "making", "ready", "ended"};

    return state == TCC_ABSENT ? "-" : state < 4 ? names[state] : "?";
}

void tcc_communicators_print(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    static const tcc_style styles[] = {TCC_WARN, TCC_WARN, TCC_GOOD, TCC_BAD};

    for (size_t i = 0; i < snapshot->communicator_count; i++) {
        const struct tcw_stats_communicator *row = &snapshot->communicators[i];

        tcc_print(&session->out, TCC_BOLD, "  %-8s", i ? "" : "comms");
        tcc_print(&session->out, row->state < 4 ? styles[row->state] : TCC_PLAIN, "    %-7s", state_name(row->state));
        fprintf(session->out.file, "devices %s", tcc_dash(row->devices));
        if (tcc_or_zero(row->took_ns))
            fprintf(session->out.file, ", made in %s", tcc_ns(row->took_ns).s);
        if (tcc_or_zero(row->bytes))
            fprintf(session->out.file, ", %s each", tcc_bytes(row->bytes).s);
        fprintf(session->out.file, ", used by %s group%s%s%s\n", tcc_number(row->users).s, tcc_plural(row->users),
                *row->problem ? ": " : "", row->problem);
    }
}

uint64_t tcc_device_communicators(const struct tcc_snapshot *snapshot, uint64_t device, uint64_t *bytes)
{
    uint64_t count = 0;

    *bytes = 0;
    for (size_t i = 0; i < snapshot->communicator_count; i++) {
        const struct tcw_stats_communicator *row = &snapshot->communicators[i];
        uint64_t bits = row->device_bits == TCC_ABSENT ? 0 : row->device_bits;

        if (device >= 64 || !(bits >> device & 1) || (row->state != MAKING && row->state != READY))
            continue;
        count++;
        *bytes += tcc_or_zero(row->bytes);
    }
    return count;
}

const struct tcw_stats_communicator *tcc_group_communicator(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group)
{
    uint64_t wanted = tcc_or_zero(group->communicator);

    for (size_t i = 0; wanted && i < snapshot->communicator_count; i++) {
        const struct tcw_stats_communicator *row = &snapshot->communicators[i];

        if (row->communicator == wanted)
            return row->state < ENDED ? row : NULL;
    }
    return NULL;
}

struct tcc_text tcc_communicator_bytes(const struct tcw_stats_communicator *communicator)
{
    struct tcc_text text = {"-"};

    if (tcc_or_zero(communicator->bytes))
        return tcc_bytes(communicator->bytes);
    if (communicator->state < READY)
        snprintf(text.s, sizeof text.s, "%s", state_name(communicator->state));
    return text;
}

void tcc_communicators_json(cJSON *document, const struct tcc_snapshot *snapshot)
{
    cJSON *list = tcc_json_array(document, "communicators");

    for (size_t i = 0; i < snapshot->communicator_count; i++) {
        const struct tcw_stats_communicator *row = &snapshot->communicators[i];
        cJSON *item = tcc_json_object(list, NULL);

        tcc_json_u64(item, "communicator", row->communicator);
        tcc_json_text(item, "devices", row->devices);
        tcc_json_u64(item, "size", row->size);
        tcc_json_text(item, "state", state_name(row->state));
        tcc_json_u64(item, "users", row->users);
        tcc_json_bool(item, "configured", tcc_or_zero(row->configured) != 0);
        tcc_json_u64(item, "since_ns", row->since_ns);
        tcc_json_u64(item, "took_ns", tcc_or_zero(row->took_ns) ? row->took_ns : TCC_ABSENT);
        tcc_json_u64(item, "bytes", tcc_or_zero(row->bytes) ? row->bytes : TCC_ABSENT);
        tcc_json_text(item, "problem", *row->problem ? row->problem : NULL);
    }
}

/* ---- kernels ---- */

bool tcc_group_has_kernels(const struct tcc_snapshot *snapshot, uint64_t group)
{
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(snapshot, group, &count);

    for (size_t i = 0; i < count; i++) {
        if (tcc_or_zero(members[i].device_steps) || tcc_or_zero(members[i].device_fault))
            return true;
    }
    return false;
}

/* Launched by calls and not finished: replays of graphs are not among them. */
static bool is_waiting(const struct tcw_stats_member *member)
{
    return tcc_or_zero(member->direct_started) > tcc_or_zero(member->device_steps);
}

struct tcc_kernels tcc_member_kernels(const struct tcc_snapshot *snapshot, const struct tcw_stats_member *member)
{
    struct tcc_kernels text = {.bad = false};
    uint64_t mine = tcc_or_zero(member->device_steps), most = mine, age;
    bool others_wait = false;
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(snapshot, member->group, &count);

    if (tcc_or_zero(member->device_fault)) {
        const char *name = tcw_error_name(-(int)(uint32_t)member->device_fault);

        text.bad = true;
        if (member->device_culprit < TCW_MAX_RANKS)
            snprintf(text.s, sizeof text.s, "kernel failed: %s because of rank %s", name ? name : "?",
                     tcc_number(member->device_culprit).s);
        else
            snprintf(text.s, sizeof text.s, "kernel failed: %s", name ? name : "?");
        return text;
    }
    if (!tcc_group_has_kernels(snapshot, member->group))
        return text;
    for (size_t i = 0; i < count; i++) {
        most = tcc_or_zero(members[i].device_steps) > most ? members[i].device_steps : most;
        others_wait |= members[i].rank != member->rank && is_waiting(&members[i]);
    }
    age = tcc_snapshot_age(snapshot, member->device_since_ns);
    if (age == TCC_ABSENT || age < STILL_NS)
        return text;
    if (mine < most)
        snprintf(text.s, sizeof text.s, "%s run%s behind, still for %s", tcc_number(most - mine).s, tcc_plural(most - mine), tcc_ns(age).s);
    else if (others_wait && !is_waiting(member))
        snprintf(text.s, sizeof text.s, "nothing enqueued for %s, others wait", tcc_ns(age).s);
    return text;
}
