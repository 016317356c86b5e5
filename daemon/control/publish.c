#include "publish.h"

#include "attachment.h"
#include "communicator.h"
#include "daemon.h"
#include "observe.h"
#include "workspace.h"

#include <tcw/stats_layout.h>

#include <stdio.h>
#include <string.h>

/* ---- the node ---- */

void tcd_publish_daemon(struct tcd_daemon *daemon)
{
    struct tcw_stats_daemon *row = &daemon->counters;
    uint64_t memory = 0, plans = 0;
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++)
        memory += daemon->devices[i].memory_bytes;
    for (i = 0; i < daemon->instances.capacity; i++) {
        const struct tcd_instance *instance = tcd_handle_at(&daemon->instances, i);
        plans += instance ? instance->ready_plans : 0;
    }
    row->heartbeat_ns = tcw_now_ns();
    row->draining = daemon->stopping ? 2 : daemon->draining;
    row->groups = daemon->instances.count;
    row->plans = plans;
    row->memory_bytes = memory;
    tcd_stats_put(daemon->stats, TCW_STATS_TABLE_DAEMON, 0, row);
}

static void uuid_text(const unsigned char *uuid, char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, "GPU-");
    unsigned i;

    for (i = 0; i < TCK_UUID_BYTES && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static void add_facts(struct tcw_stats_device *row, const struct tcd_ex_facts *facts)
{
    row->known = 1;
    row->compute = facts->device.compute;
    row->multiprocessors = facts->device.multiprocessors;
    row->gpu_memory_bytes = facts->device.memory_bytes;
    row->driver = facts->device.driver;
    row->library = facts->library;
    row->mps = facts->device.mps;
    row->fabric = facts->device.fabric;
    row->fd_export = facts->device.fd_export;
    row->stream_words = facts->device.stream_words;
    tcw_text_set(row->gpu, sizeof(row->gpu), facts->device.name);
    uuid_text(facts->device.uuid, row->uuid, sizeof(row->uuid));
    tcw_text_set(row->pci, sizeof(row->pci), facts->device.pci);
    tcw_text_set(row->fabric_why, sizeof(row->fabric_why), facts->device.fabric_why);
    tcw_text_set(row->library_why, sizeof(row->library_why), facts->library_why);
}

static uint64_t unmapped_bits(const struct tcd_device *device)
{
    const struct tcd_daemon *daemon = device->daemon;
    uint64_t bits = 0;
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++)
        if (daemon->devices[i].number < 64 && !tcd_device_maps(device, &daemon->devices[i]))
            bits |= 1ull << daemon->devices[i].number;
    return bits;
}

static void publish_device(const struct tcd_device *device, uint32_t index)
{
    const char *trouble;
    int code;
    struct tcw_stats_device row = {
        .device = device->number, .kind = device->kind, .attachments = device->attachments, .memory_bytes = device->memory_bytes};

    memcpy(row.note, device->note, sizeof(row.note));
    if (device->known)
        add_facts(&row, &device->facts);
    row.unmapped_bits = unmapped_bits(device);
    trouble = device->executor ? tcd_executor_trouble(device->executor, &code) : NULL;
    if (trouble) {
        tcw_text_set(row.problem, sizeof(row.problem), trouble);
        tcw_text_set(row.note, sizeof(row.note), trouble);
    }
    if (device->executor) {
        row.pid = (uint64_t)tcd_executor_pid(device->executor);
        row.restarts = tcd_executor_restarts(device->executor);
        row.failed = tcd_executor_failed(device->executor);
        row.heartbeat_ns = tcd_executor_heartbeat_ns(device->executor);
        if (row.failed)
            tcw_text_set(row.note, sizeof(row.note), "its executor dies too often; requests are refused for a while");
    }
    tcd_stats_put(device->daemon->stats, TCW_STATS_TABLE_DEVICE, index, &row);
}

/* ---- communicators ---- */

static void publish_communicator(const struct tcd_communicator *communicator)
{
    struct tcw_stats_communicator row = {.communicator = communicator->id,
                                         .size = communicator->size,
                                         .state = communicator->state,
                                         .users = communicator->users,
                                         .configured = communicator->configured,
                                         .since_ns = communicator->began_ns,
                                         .took_ns = communicator->took_ns,
                                         .bytes = communicator->bytes};

    uint32_t i;

    if (communicator->row == TCD_NO_ROW)
        return;
    for (i = 0; i < communicator->size; i++)
        row.device_bits |= 1ull << communicator->devices[i]->number;
    tcd_communicator_text(communicator, row.devices, sizeof(row.devices));
    tcw_text_set(row.problem, sizeof(row.problem), communicator->error.text);
    tcd_stats_put(communicator->daemon->stats, TCW_STATS_TABLE_COMMUNICATOR, communicator->row, &row);
}

/* ---- clients ---- */

void tcd_publish_client(const struct tcd_client *client)
{
    struct tcw_stats_client row = {.client = client->id,
                                   .pid = (uint64_t)client->process.pid,
                                   .uid = client->uid,
                                   .device = client->device ? client->device->number : UINT64_MAX,
                                   .attached_ns = client->attached_ns,
                                   .groups = client->usage.amount[TCD_GROUPS],
                                   .plans = client->usage.amount[TCD_PLANS],
                                   .memory_bytes = client->usage.amount[TCD_BYTES] - client->registered_bytes,
                                   .registered_bytes = client->registered_bytes,
                                   .in_flight_limit = client->usage.amount[TCD_IN_FLIGHT],
                                   .requests = client->requests,
                                   .refusals = client->refusals};

    memcpy(row.name, client->name, sizeof(row.name));
    tcd_stats_put(client->daemon->stats, TCW_STATS_TABLE_CLIENT, tcd_handle_index(client->handle), &row);
}

void tcd_publish_client_ended(const struct tcd_client *client)
{
    if (client->greeted && !client->tool)
        tcd_stats_clear(client->daemon->stats, TCW_STATS_TABLE_CLIENT, tcd_handle_index(client->handle));
}

/* ---- groups ---- */

static void put_group(struct tcd_daemon *daemon, uint32_t index, const struct tcw_stats_group *row)
{
    if (index != TCD_NO_ROW)
        tcd_stats_put(daemon->stats, TCW_STATS_TABLE_GROUP, index, row);
}

static void give_group_row(struct tcd_daemon *daemon, uint32_t *row)
{
    if (*row != TCD_NO_ROW)
        tcd_stats_clear(daemon->stats, TCW_STATS_TABLE_GROUP, *row);
    tcd_rows_give(&daemon->group_rows, *row);
    *row = TCD_NO_ROW;
}

static const char *origin(const struct tcd_group *group)
{
    return group->configured ? "configured" : "made by members";
}

void tcd_publish_group(struct tcd_group *group)
{
    struct tcw_stats_group row = {
        .size = group->size, .deadline_ns = tcd_group_deadline_ns(group), .culprit = TCW_NOBODY, .epoch = group->epoch};
    const struct tcf_group *wanted = group->configured ? tcf_config_group(group->daemon->config, group->name) : NULL;
    struct tcw_error obstacle;

    if (!tcd_list_empty(&group->instances))
        return;
    if (wanted && tcd_group_runnable(group->daemon, wanted, &obstacle))
        tcw_text_set(row.problem, sizeof(row.problem), obstacle.text);
    if (group->row == TCD_NO_ROW)
        group->row = tcd_rows_take(&group->daemon->group_rows);
    memcpy(row.name, group->name, sizeof(row.name));
    tcw_text_set(row.origin, sizeof(row.origin), origin(group));
    put_group(group->daemon, group->row, &row);
}

void tcd_publish_group_ended(struct tcd_group *group)
{
    give_group_row(group->daemon, &group->row);
}

void tcd_publish_instance(const struct tcd_instance *instance)
{
    struct tcw_stats_group row = {.group = instance->id,
                                  .epoch = instance->epoch,
                                  .size = instance->size,
                                  .joined = instance->present,
                                  .state = instance->state,
                                  .plans = instance->ready_plans,
                                  .workspace_bytes = tcd_workspaces_bytes(instance),
                                  .workspace_generation = instance->generations,
                                  .deadline_ns = instance->deadline_ns,
                                  .communicator = instance->communicator ? instance->communicator->id : 0,
                                  .code = (uint64_t) - (int64_t)instance->cause.code,
                                  .culprit = instance->state == TCD_BROKEN ? instance->cause.rank : TCW_NOBODY};

    memcpy(row.name, instance->group->name, sizeof(row.name));
    tcw_text_set(row.origin, sizeof(row.origin), origin(instance->group));
    tcw_text_set(row.problem, sizeof(row.problem), instance->cause.text);
    put_group(instance->daemon, instance->row, &row);
}

void tcd_publish_group_began(struct tcd_group *group, struct tcd_instance *instance)
{
    if (group->row != TCD_NO_ROW)
        instance->row = group->row;
    else
        instance->row = tcd_rows_take(&group->daemon->group_rows);
    group->row = TCD_NO_ROW;
    tcd_publish_instance(instance);
}

void tcd_publish_instance_ended(struct tcd_instance *instance)
{
    give_group_row(instance->daemon, &instance->row);
}

/* ---- members ---- */

void tcd_publish_member_began(struct tcd_member *member)
{
    if (member->row == TCD_NO_ROW)
        member->row = tcd_rows_take(&member->instance->daemon->member_rows);
    tcd_publish_member(member);
}

static void put_member(const struct tcd_member *member, uint64_t client)
{
    static const struct tcd_observed nothing;
    const struct tcd_observed *direct = tcd_page_observed(&member->page);
    const struct tcd_observed *served = member->attachment ? tcd_page_observed(&member->attachment->page) : NULL;
    struct tcw_stats_member row;

    direct = direct ? direct : &nothing;
    served = served ? served : &nothing;
    row = (struct tcw_stats_member){.group = member->instance->id,
                                    .rank = member->rank,
                                    .client = client,
                                    .pid = (uint64_t)member->client->process.pid,
                                    .device = member->device->number,
                                    .direct_started = direct->started,
                                    .direct_finished = direct->finished,
                                    .direct_hash = direct->hash,
                                    .direct_state = direct->state,
                                    .direct_since_ns = direct->since_ns,
                                    .direct_missing = direct->missing,
                                    .served_started = served->started,
                                    .served_finished = served->finished,
                                    .served_hash = served->hash,
                                    .served_state = served->state,
                                    .served_since_ns = served->since_ns,
                                    .served_missing = served->missing,
                                    .bytes = direct->bytes + served->bytes,
                                    .errors = direct->errors + served->errors,
                                    .busy_ns = direct->busy_ns + served->busy_ns,
                                    .device_steps = direct->device_steps,
                                    .device_since_ns = direct->device_steps ? direct->device_since_ns : 0,
                                    .device_fault = (uint32_t)direct->device_fault,
                                    .device_culprit = direct->device_fault ? tcw_abort_culprit(direct->device_fault) : TCW_NOBODY,
                                    .device_fault_step = direct->device_fault_step,
                                    .device_their_step = direct->device_their_step};
    tcd_stats_put(member->instance->daemon->stats, TCW_STATS_TABLE_MEMBER, member->row, &row);
}

void tcd_publish_member(const struct tcd_member *member)
{
    if (member->row != TCD_NO_ROW && member->client)
        put_member(member, member->client->id);
}

void tcd_publish_member_gone(const struct tcd_member *member)
{
    if (member->row != TCD_NO_ROW)
        put_member(member, 0);
}

static uint32_t record_row(const struct tcd_member *member, unsigned lane, uint64_t step)
{
    return member->row * 2 * TCW_STATS_RECORDS_PER_MEMBER + (lane - 1) * TCW_STATS_RECORDS_PER_MEMBER +
           (uint32_t)(step % TCW_STATS_RECORDS_PER_MEMBER);
}

/* What kernels know of a run is its plan and its tokens; a plan that is gone takes the rest with it. */
static void add_plan(const struct tcd_member *member, struct tcw_stats_record *row, uint64_t tokens)
{
    const struct tcd_plan *plan = tcd_plan_find(member->instance, row->plan_id);
    struct tcw_complaint complaint;

    if (!plan || plan->state != TCD_PLAN_READY || tcw_plan_tokens_check(&plan->desc, tokens, &complaint))
        return;
    row->op = plan->desc.op;
    row->dtype = plan->desc.dtype;
    row->fusion = plan->desc.fusion;
    row->bytes = tcw_plan_message_bytes(&plan->desc, member->instance->size, member->rank, tokens);
    row->strategy = tcw_decision_strategy(&plan->choice.decision, row->bytes);
}

/* Of replayed graphs the runner knows nothing; its kernels do. They count all runs, so launches are among these too. */
static void publish_replays(const struct tcd_member *member, const struct tcd_page *page, const struct tcd_observed *observed)
{
    uint64_t last = observed->device_steps, i;

    for (i = 0; i < TCW_STATS_RECORDS_PER_MEMBER && i < last; i++) {
        uint64_t step = last - i, tokens;
        struct tcw_stats_record row;

        if (!tcd_page_replay(page, step, &row, &tokens))
            continue;
        add_plan(member, &row, tokens);
        row.group = member->instance->id;
        row.rank = member->rank;
        row.lane = TCW_LANE_DIRECT;
        row.gpu_clock = 1;
        tcd_stats_put(member->instance->daemon->stats, TCW_STATS_TABLE_RECORD, record_row(member, TCW_LANE_DIRECT, step), &row);
    }
}

void tcd_publish_records(const struct tcd_member *member, const struct tcd_page *page, unsigned lane)
{
    const struct tcd_observed *observed = tcd_page_observed(page);
    uint64_t index, first;

    if (member->row == TCD_NO_ROW || !observed)
        return;
    if (lane == TCW_LANE_DIRECT && observed->replays) {
        publish_replays(member, page, observed);
        return;
    }
    first = observed->records > TCW_STATS_RECORDS_PER_MEMBER ? observed->records - TCW_STATS_RECORDS_PER_MEMBER : 0;
    for (index = first; index < observed->records; index++) {
        struct tcw_stats_record row;

        if (!tcd_page_record(page, index, &row))
            continue;
        row.group = member->instance->id;
        row.rank = member->rank;
        row.lane = lane;
        tcd_stats_put(member->instance->daemon->stats, TCW_STATS_TABLE_RECORD, record_row(member, lane, row.step), &row);
    }
}

void tcd_publish_member_ended(struct tcd_member *member)
{
    struct tcd_daemon *daemon = member->instance->daemon;
    uint64_t step;

    if (member->row == TCD_NO_ROW)
        return;
    tcd_stats_clear(daemon->stats, TCW_STATS_TABLE_MEMBER, member->row);
    for (step = 0; step < TCW_STATS_RECORDS_PER_MEMBER; step++) {
        tcd_stats_clear(daemon->stats, TCW_STATS_TABLE_RECORD, record_row(member, TCW_LANE_DIRECT, step));
        tcd_stats_clear(daemon->stats, TCW_STATS_TABLE_RECORD, record_row(member, TCW_LANE_SERVED, step));
    }
    tcd_rows_give(&daemon->member_rows, member->row);
    member->row = TCD_NO_ROW;
}

/* ---- latency ---- */

void tcd_publish_latency(struct tcd_daemon *daemon, struct tcd_totals *totals)
{
    unsigned op, lane, size_class, bucket;

    for (op = 0; op < TCW_MEMBER_MAX_OPS; op++) {
        for (lane = 1; lane <= 2; lane++) {
            for (size_class = 0; size_class < TCW_SIZE_CLASSES; size_class++) {
                struct tcw_stats_latency row = {
                    .op = op, .lane = lane, .size_class = size_class, .size_limit = tcw_size_class_limit(size_class)};

                if (!totals->changed[op][lane - 1][size_class])
                    continue;
                totals->changed[op][lane - 1][size_class] = false;
                for (bucket = 0; bucket < TCW_LATENCY_BUCKETS; bucket++) {
                    row.buckets[bucket] = totals->latency[op][lane - 1][size_class][bucket];
                    row.count += row.buckets[bucket];
                }
                tcd_stats_put(daemon->stats, TCW_STATS_TABLE_LATENCY, tcw_stats_latency_row(op, lane, size_class), &row);
            }
        }
    }
}

void tcd_publish_all(struct tcd_daemon *daemon)
{
    struct tcd_link *at;
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++)
        publish_device(&daemon->devices[i], i);
    TCD_EACH (at, &daemon->communicators)
        publish_communicator(TCD_ENTRY(at, struct tcd_communicator, link));
    for (i = 0; i < daemon->clients.capacity; i++) {
        const struct tcd_client *client = tcd_handle_at(&daemon->clients, i);
        if (client && client->greeted && !client->tool)
            tcd_publish_client(client);
    }
    for (i = 0; i < daemon->instances.capacity; i++) {
        const struct tcd_instance *instance = tcd_handle_at(&daemon->instances, i);
        uint32_t rank;

        if (!instance)
            continue;
        tcd_publish_instance(instance);
        for (rank = 0; rank < instance->size; rank++)
            tcd_publish_member(&instance->members[rank]);
    }
    TCD_EACH (at, &daemon->groups)
        tcd_publish_group(TCD_ENTRY(at, struct tcd_group, link));
    tcd_publish_daemon(daemon);
}
