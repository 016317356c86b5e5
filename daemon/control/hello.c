#include "hello.h"

#include "daemon.h"
#include "publish.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Operators get in when clients do not any more, and administrators when others take what others may have. */
enum { SPARE_TOOLS = 16, SPARE_GUESTS = SPARE_TOOLS / 2 };

static bool contains(const uint32_t *ids, uint32_t count, uint32_t id)
{
    uint32_t i;

    for (i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Supplementary groups of the peer when it connected. */
static bool in_groups(const struct tcf_access *access, const struct tcd_client *client)
{
    gid_t gids[256];
    socklen_t bytes = sizeof(gids), i;

    if (contains(access->gids, access->gid_count, client->gid))
        return true;
    if (!access->gid_count || getsockopt(client->connection.socket, SOL_SOCKET, SO_PEERGROUPS, gids, &bytes))
        return false;
    for (i = 0; i < bytes / sizeof(gids[0]); i++)
        if (contains(access->gids, access->gid_count, gids[i]))
            return true;
    return false;
}

bool tcd_access_allows_listed(const struct tcf_access *access, const struct tcd_client *client)
{
    return client->uid == 0 || client->uid == geteuid() || contains(access->uids, access->uid_count, client->uid) ||
           in_groups(access, client);
}

bool tcd_access_allows(const struct tcf_access *access, const struct tcd_client *client)
{
    return (!access->uid_count && !access->gid_count) || tcd_access_allows_listed(access, client);
}

static int check_abi(const struct tcw_hello *hello, struct tcw_error *error)
{
    uint64_t unknown = hello->features & ~(uint64_t)TCW_FEATURES_KNOWN;

    if (hello->abi_min > TCW_ABI_MAX || hello->abi_max < TCW_ABI_MIN || hello->abi_min > hello->abi_max)
        return tcd_error_set(error, TCW_EABI, "the client speaks ABI %u to %u, this daemon %u to %u", hello->abi_min, hello->abi_max,
                             TCW_ABI_MIN, TCW_ABI_MAX);
    if (unknown)
        return tcd_error_set(error, TCW_EABI, "features 0x%llx are unknown to this daemon, which has 0x%x", (unsigned long long)unknown,
                             TCW_FEATURES_KNOWN);
    if (hello->role > 1)
        return tcd_error_set(error, TCW_EINVAL, "role is %u; known are 0 (client) and 1 (operator's tool)", hello->role);
    return 0;
}

static bool may_administer(const struct tcd_client *client)
{
    return tcd_access_allows_listed(&client->daemon->config->admin, client);
}

static int check_right(const struct tcd_client *client, const struct tcw_hello *hello, struct tcw_error *error)
{
    if (tcd_access_allows(&client->daemon->config->access, client) || (hello->role == 1 && may_administer(client)))
        return 0;
    return tcd_error_set(error, TCW_EPERM, "uid %u and its groups are not in the configured users or groups", client->uid);
}

static int check_tool_seat(const struct tcd_client *client, struct tcw_error *error)
{
    const struct tcd_daemon *daemon = client->daemon;

    if (daemon->tools >= SPARE_TOOLS)
        return tcd_error_set(error, TCW_EQUOTA, "%u operators' tools are connected, allowed: %d", daemon->tools, SPARE_TOOLS);
    if (daemon->guests >= SPARE_GUESTS && !may_administer(client))
        return tcd_error_set(error, TCW_EQUOTA, "%u tools of users who are no administrators are connected, allowed: %d", daemon->guests,
                             SPARE_GUESTS);
    return 0;
}

static int check_client_seat(const struct tcd_client *client, struct tcw_error *error)
{
    const struct tcd_daemon *daemon = client->daemon;
    const struct tcf_options *options = &daemon->config->options;
    uint32_t clients = (uint32_t)daemon->counters.clients;

    if (daemon->draining)
        return tcd_error_set(error, TCW_EDRAIN, "the daemon is draining and lets nobody new in");
    if (clients >= options->max_clients)
        return tcd_error_set(error, TCW_EQUOTA, "limits.max_clients: %u clients are attached, allowed: %llu", clients,
                             (unsigned long long)options->max_clients);
    if (client->account->seats >= options->uid_clients)
        return tcd_error_set(error, TCW_EQUOTA, "limits.uid.clients: %u clients of uid %u are attached, allowed: %llu",
                             client->account->seats, client->uid, (unsigned long long)options->uid_clients);
    return 0;
}

static int check_seat(const struct tcd_client *client, const struct tcw_hello *hello, struct tcw_error *error)
{
    return hello->role == 1 ? check_tool_seat(client, error) : check_client_seat(client, error);
}

static int find_device(struct tcd_client *client, int32_t number, struct tcd_device **device, struct tcw_error *error)
{
    *device = NULL;
    if (number == -1)
        return 0;
    if (number >= 0)
        *device = tcd_device_find(client->daemon, (uint32_t)number);
    if (!*device)
        return tcd_error_set(error, TCW_EINVAL, "device %d: this node does not have it; it has %u devices", number,
                             client->daemon->device_count);
    return tcd_device_check(*device, error);
}

static void answer(struct tcd_client *client, uint32_t sequence)
{
    const struct tcf_options *options = &client->daemon->config->options;
    struct tcw_hello_ok ok = {.abi = TCW_ABI_MAX,
                              .device = client->device ? (int32_t)client->device->number : -1,
                              .features = client->features,
                              .generation = client->daemon->generation,
                              .client_id = client->id,
                              .max_groups = (uint32_t)options->client_groups,
                              .max_plans = (uint32_t)options->client_plans,
                              .max_in_flight = (uint32_t)options->client_in_flight,
                              .ring_entries = (uint32_t)options->ring_entries,
                              .max_bytes = options->client_bytes,
                              .spin_us = (uint32_t)options->spin_us,
                              .join_ms = (uint32_t)options->join_ms,
                              .plan_ms = (uint32_t)options->plan_ms};

    tcw_text_set(ok.version, sizeof(ok.version), TCD_VERSION);
    tcd_client_send(client, TCW_MSG_HELLO_OK, sequence, &ok, NULL, 0);
}

void tcd_hello(struct tcd_client *client, uint32_t sequence, const struct tcw_hello *hello)
{
    struct tcd_device *device = NULL;
    struct tcw_error error;

    tcd_text_clean(client->name, sizeof(client->name), hello->name);
    if (check_abi(hello, &error) || check_right(client, hello, &error) || check_seat(client, hello, &error) ||
        find_device(client, hello->device, &device, &error)) {
        tcd_client_refuse(client, sequence, &error);
        tcd_client_doom(client, TCD_REFUSED, "its hello was refused");
        return;
    }
    tcd_alarm_stop(&client->patience);
    client->greeted = true;
    client->account->strangers--;
    client->tool = hello->role == 1;
    client->features = hello->features;
    if (device)
        tcd_client_bind(client, device);
    if (client->tool) {
        client->daemon->tools++;
        client->guest = !may_administer(client);
        client->daemon->guests += client->guest;
        if (client->guest)
            tcd_client_expect_command(client);
    } else {
        client->account->seats++;
        client->daemon->counters.clients++;
        client->daemon->counters.clients_total++;
        tcd_client_log(client, TCD_INFO, "attached, uid %u", client->uid);
        tcd_publish_client(client);
    }
    answer(client, sequence);
}
