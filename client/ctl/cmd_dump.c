/* dump: the flight recorder. The last requests of each group and lane, what every rank did, and who was last. */
#include "command.h"
#include "json.h"
#include "snapshot.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static const struct tcc_option options[] = {
    {"count", "N", "requests per group and lane (default 8, at most 32 are kept)", 'n'},
    {"ranks", NULL, "a line for every rank instead of one for every request", 'R'},
    {"lane", "LANE", "only this lane: direct or served", 0},
    {0},
};

typedef enum rank_state { RANK_UNKNOWN, RANK_LEFT, RANK_ABSENT, RANK_UNDERWAY, RANK_OK, RANK_FAILED } rank_state;

/* One request of a group on one lane: the records that its ranks left about the same step. Times are CLOCK_MONOTONIC. */
struct step {
    uint64_t number;
    const struct tcw_stats_record *any;                    /* for what all ranks have in common */
    const struct tcw_stats_record *records[TCW_MAX_RANKS]; /* NULL: none */
    rank_state states[TCW_MAX_RANKS];
    unsigned counts[RANK_FAILED + 1];
    uint64_t submit_ns; /* the earliest */
    uint64_t start_ns;  /* the latest */
    uint64_t end_ns;    /* the latest, 0: some rank has not ended */
    unsigned last;      /* the rank that ended last; TCW_MAX_RANKS: none has ended */
    uint64_t behind_ns; /* by how much, compared with the one before it */
    bool outlier;       /* and whether that is much */
};

/* One lane of one group. */
struct trace {
    const struct tcc_snapshot *snapshot;
    const struct tcw_stats_group *group;
    tcw_lane lane;
    const struct tcw_stats_record *records;
    size_t record_count;
    unsigned ranks;
    uint64_t newest[TCW_MAX_RANKS]; /* last step that each rank has left a record of */
};

static bool trace_open(struct trace *trace, const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group, tcw_lane lane)
{
    size_t first = 0;

    *trace = (struct trace){.snapshot = snapshot, .group = group, .lane = lane};
    while (first < snapshot->record_count &&
           (snapshot->records[first].group != group->group || snapshot->records[first].lane != (uint64_t)lane))
        first++;
    trace->records = snapshot->records + first;
    while (first + trace->record_count < snapshot->record_count && trace->records[trace->record_count].group == group->group &&
           trace->records[trace->record_count].lane == (uint64_t)lane)
        trace->record_count++;
    trace->ranks = group->size < TCW_MAX_RANKS ? (unsigned)group->size : TCW_MAX_RANKS;
    for (size_t i = 0; i < trace->record_count; i++) {
        const struct tcw_stats_record *record = &trace->records[i];

        if (record->rank < trace->ranks && record->step > trace->newest[record->rank])
            trace->newest[record->rank] = record->step;
    }
    return trace->record_count > 0;
}

static size_t trace_steps(const struct trace *trace)
{
    size_t steps = 0;

    for (size_t i = 0; i < trace->record_count; i++)
        steps += !i || trace->records[i].step != trace->records[i - 1].step;
    return steps;
}

static rank_state judge(const struct trace *trace, const struct step *step, unsigned rank)
{
    const struct tcw_stats_record *record = step->records[rank];

    if (!record && !tcc_snapshot_member(trace->snapshot, trace->group->group, rank))
        return RANK_LEFT; /* and its records with it */
    if (!record)          /* a rank that is further has only been overwritten */
        return trace->newest[rank] < step->number ? RANK_ABSENT : RANK_UNKNOWN;
    if (!record->end_ns)
        return RANK_UNDERWAY;
    return tcc_or_zero(record->result) ? RANK_FAILED : RANK_OK;
}

/*
 * Clocks of GPUs are not comparable to the microsecond, but a collective ends on all ranks at almost the same time: their ends are laid
 * upon each other. Who took the shortest time came last.
 */
static void lay_ends(struct step *step, unsigned ranks)
{
    uint64_t longest = 0, shortest = UINT64_MAX;

    for (unsigned rank = 0; rank < ranks; rank++) {
        const struct tcw_stats_record *record = step->records[rank];
        uint64_t ns = record && record->end_ns >= record->start_ns ? record->end_ns - record->start_ns : 0;

        longest = record && ns > longest ? ns : longest;
        shortest = record && ns < shortest ? ns : shortest;
    }
    if (!step->end_ns || shortest == UINT64_MAX || longest > step->end_ns)
        return;
    step->submit_ns = step->end_ns - longest;
    step->start_ns = step->end_ns - shortest;
}

static void find_last(struct step *step, unsigned ranks)
{
    uint64_t second = 0;

    step->last = TCW_MAX_RANKS;
    if (tcc_or_zero(step->any->gpu_clock))
        return;
    for (unsigned rank = 0; rank < ranks; rank++) {
        const struct tcw_stats_record *record = step->records[rank];

        if (!record || !record->end_ns)
            continue;
        if (step->last == TCW_MAX_RANKS || record->end_ns > step->records[step->last]->end_ns) {
            second = step->last == TCW_MAX_RANKS ? 0 : step->records[step->last]->end_ns;
            step->last = rank;
        } else if (record->end_ns > second) {
            second = record->end_ns;
        }
    }
    if (step->last == TCW_MAX_RANKS || !second)
        return;
    step->behind_ns = step->records[step->last]->end_ns - second;
    step->outlier = step->behind_ns > 1000 && step->behind_ns > (second - step->submit_ns) / 2;
}

/* Fills *step from the records at `*at` on, and moves *at behind them. */
static void take_step(const struct trace *trace, size_t *at, struct step *step)
{
    bool complete = true;

    *step = (struct step){.number = trace->records[*at].step, .any = &trace->records[*at], .submit_ns = UINT64_MAX};
    for (; *at < trace->record_count && trace->records[*at].step == step->number; (*at)++) {
        const struct tcw_stats_record *record = &trace->records[*at];

        if (record->rank >= trace->ranks)
            continue;
        step->records[record->rank] = record;
        if (record->submit_ns < step->submit_ns)
            step->submit_ns = record->submit_ns;
        if (record->start_ns > step->start_ns)
            step->start_ns = record->start_ns;
        if (record->end_ns > step->end_ns)
            step->end_ns = record->end_ns;
        complete = complete && record->end_ns;
    }
    if (!complete)
        step->end_ns = 0;
    for (unsigned rank = 0; rank < trace->ranks; rank++) {
        step->states[rank] = judge(trace, step, rank);
        step->counts[step->states[rank]]++;
    }
    find_last(step, trace->ranks);
    if (tcc_or_zero(step->any->gpu_clock))
        lay_ends(step, trace->ranks);
}

static uint64_t ranks_in(const struct trace *trace, const struct step *step, rank_state state)
{
    uint64_t bits = 0;

    for (unsigned rank = 0; rank < trace->ranks; rank++)
        bits |= (uint64_t)(step->states[rank] == state) << rank;
    return bits;
}

static struct tcc_text behind(uint64_t at, uint64_t reference)
{
    struct tcc_text text = tcc_ns(at > reference ? at - reference : reference - at);
    struct tcc_text signed_text;

    snprintf(signed_text.s, sizeof signed_text.s, "%c%.30s", at < reference ? '-' : '+', text.s);
    return signed_text;
}

static const char *name_or(const char *name, const char *otherwise)
{
    return name ? name : otherwise;
}

static const char *result_name(uint64_t result)
{
    return result ? name_or(tcw_error_name(-(int)result), "unknown error") : "ok";
}

/* "all-reduce+residual-rms-norm" */
static void operation_cell(struct tcc_table *table, const struct tcw_stats_record *record)
{
    const char *fusion = record->fusion && record->fusion != TCC_ABSENT ? tcw_fusion_name((unsigned)record->fusion) : NULL;

    tcc_table_cell(table, TCC_PLAIN, "%s%s%s", name_or(tcw_op_name((unsigned)record->op), "?"), fusion ? "+" : "", fusion ? fusion : "");
}

static const char *strategy_name(const struct tcw_stats_record *record)
{
    return record->op == TCW_OP_ALL_REDUCE ? name_or(tcw_strategy_name((unsigned)record->strategy), "?") : "-";
}

static const char *dtype_name(const struct tcw_stats_record *record)
{
    return record->op == TCW_OP_BARRIER || record->op == TCW_OP_NOP ? "-" : name_or(tcw_dtype_name((unsigned)record->dtype), "?");
}

/* How the ranks did, the bad news first. */
static void ranks_cell(struct tcc_table *table, const struct trace *trace, const struct step *step)
{
    char text[400] = "";
    size_t used = 0;
    tcc_style style = TCC_PLAIN;

    if (step->counts[RANK_ABSENT]) {
        bool waited = step->counts[RANK_UNDERWAY] || step->counts[RANK_FAILED];

        style = waited ? TCC_BAD : TCC_WARN;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %s; ", waited ? "! " : "",
                                 waited ? "did not arrive:" : "not yet:", tcc_ranks(ranks_in(trace, step, RANK_ABSENT)).s);
    }
    if (step->counts[RANK_FAILED]) {
        unsigned rank = 0;

        while (step->states[rank] != RANK_FAILED)
            rank++;
        style = TCC_BAD;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s: %s; ", result_name(step->records[rank]->result),
                                 tcc_ranks(ranks_in(trace, step, RANK_FAILED)).s);
    }
    if (step->counts[RANK_UNDERWAY])
        used += (size_t)snprintf(text + used, sizeof text - used, "under way: %s; ", tcc_ranks(ranks_in(trace, step, RANK_UNDERWAY)).s);
    if (step->counts[RANK_LEFT])
        used += (size_t)snprintf(text + used, sizeof text - used, "left: %s; ", tcc_ranks(ranks_in(trace, step, RANK_LEFT)).s);
    if (step->counts[RANK_OK] == trace->ranks)
        used += (size_t)snprintf(text + used, sizeof text - used, "all ok; ");
    else if (step->counts[RANK_OK])
        used += (size_t)snprintf(text + used, sizeof text - used, "ok: %s; ", tcc_ranks(ranks_in(trace, step, RANK_OK)).s);
    text[used > 2 ? used - 2 : 0] = 0;
    tcc_table_cell(table, style, "%s", tcc_dash(text));
}

static void last_cell(struct tcc_table *table, const struct trace *trace, const struct step *step)
{
    if (trace->ranks < 2 || step->last == TCW_MAX_RANKS || !step->end_ns)
        tcc_table_cell(table, TCC_PLAIN, "-");
    else
        tcc_table_cell(table, step->outlier ? TCC_WARN : TCC_DIM, "%s%u +%s", step->outlier ? "* " : "", step->last,
                       tcc_ns(step->behind_ns).s);
}

static void add_request(struct tcc_table *table, const struct trace *trace, const struct step *step)
{
    tcc_table_cell(table, TCC_BOLD, "%s", tcc_number(step->number).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(step->any->plan_id).s);
    operation_cell(table, step->any);
    tcc_table_cell(table, TCC_PLAIN, "%s", dtype_name(step->any));
    tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(step->any->bytes).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", strategy_name(step->any));
    tcc_table_cell(table, TCC_PLAIN, "%s", behind(step->submit_ns, trace->snapshot->as_of_ns).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", behind(step->start_ns, step->submit_ns).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", step->end_ns ? behind(step->end_ns, step->submit_ns).s : "-");
    last_cell(table, trace, step);
    ranks_cell(table, trace, step);
}

static const struct tcc_column request_columns[] = {
    {"STEP", TCC_RIGHT},  {"PLAN", TCC_RIGHT},        {"OPERATION", TCC_LEFT}, {"TYPE", TCC_OPTIONAL},
    {"BYTES", TCC_RIGHT}, {"STRATEGY", TCC_OPTIONAL}, {"SUBMIT", TCC_RIGHT},   {"START", TCC_RIGHT},
    {"END", TCC_RIGHT},   {"LAST", TCC_OPTIONAL},     {"RANKS", TCC_LEFT},
};

static const struct tcc_column rank_columns[] = {
    {"STEP", TCC_RIGHT},   {"OPERATION", TCC_LEFT}, {"BYTES", TCC_RIGHT}, {"STRATEGY", TCC_OPTIONAL}, {"RANK", TCC_RIGHT},
    {"SUBMIT", TCC_RIGHT}, {"START", TCC_RIGHT},    {"END", TCC_RIGHT},   {"TOOK", TCC_RIGHT},        {"STATE", TCC_LEFT},
};

static void add_rank(struct tcc_table *table, const struct trace *trace, const struct step *step, unsigned rank, bool first)
{
    const struct tcw_stats_record *record = step->records[rank];
    bool slow = step->outlier && step->last == rank;

    tcc_table_cell(table, TCC_BOLD, "%s", first ? tcc_number(step->number).s : "");
    if (first)
        operation_cell(table, step->any);
    else
        tcc_table_cell(table, TCC_PLAIN, "%s", "");
    tcc_table_cell(table, TCC_PLAIN, "%s", first ? tcc_bytes(step->any->bytes).s : "");
    tcc_table_cell(table, TCC_PLAIN, "%s", first ? strategy_name(step->any) : "");
    tcc_table_cell(table, TCC_PLAIN, "%u", rank);
    /* The first rank's submission anchors the step in time; the others are shown against it. */
    tcc_table_cell(table, TCC_PLAIN, "%s",
                   !record ? "-"
                   : first ? behind(record->submit_ns, trace->snapshot->as_of_ns).s
                           : behind(record->submit_ns, step->submit_ns).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", record ? behind(record->start_ns, step->submit_ns).s : "-");
    tcc_table_cell(table, slow ? TCC_WARN : TCC_PLAIN, "%s", record && record->end_ns ? behind(record->end_ns, step->submit_ns).s : "-");
    tcc_table_cell(table, TCC_PLAIN, "%s",
                   record && record->end_ns >= record->start_ns && record->end_ns ? tcc_ns(record->end_ns - record->start_ns).s : "-");
    switch (step->states[rank]) {
    case RANK_ABSENT:
        if (step->counts[RANK_UNDERWAY] || step->counts[RANK_FAILED])
            tcc_table_cell(table, TCC_BAD, "! did not arrive");
        else
            tcc_table_cell(table, TCC_WARN, "not yet");
        break;
    case RANK_UNDERWAY:
        tcc_table_cell(table, TCC_WARN, "under way");
        break;
    case RANK_FAILED:
        tcc_table_cell(table, TCC_BAD, "%s", record ? result_name(record->result) : "-");
        break;
    case RANK_OK:
        tcc_table_cell(table, slow ? TCC_WARN : TCC_PLAIN, "%s", slow ? "ok, * last" : "ok");
        break;
    case RANK_LEFT:
        tcc_table_cell(table, TCC_DIM, "left");
        break;
    case RANK_UNKNOWN:
        tcc_table_cell(table, TCC_DIM, "overwritten");
        break;
    }
}

static void print_trace(struct tcc_session *session, const struct trace *trace, size_t count, bool by_rank)
{
    size_t steps = trace_steps(trace), skip = steps > count ? steps - count : 0, index = 0;
    struct tcc_table *table = by_rank ? tcc_table_create(rank_columns, sizeof rank_columns / sizeof rank_columns[0])
                                      : tcc_table_create(request_columns, sizeof request_columns / sizeof request_columns[0]);

    tcc_print(&session->out, TCC_BOLD, "%s", tcc_dash(trace->group->name));
    fprintf(session->out.file, " epoch %s, %s, %u ranks, %s lane: ", tcc_number(trace->group->epoch).s,
            tcc_group_state_name(trace->group->state), trace->ranks, tcw_lane_name((unsigned)trace->lane));
    tcc_print(&session->out, TCC_DIM, "the last %zu of %zu kept requests\n", steps - skip, steps);
    for (size_t at = 0; at < trace->record_count; index++) {
        struct step step;
        bool first = true;

        take_step(trace, &at, &step);
        if (index < skip)
            continue;
        if (!by_rank)
            add_request(table, trace, &step);
        for (unsigned rank = 0; by_rank && rank < trace->ranks; rank++, first = false)
            add_rank(table, trace, &step, rank, first);
    }
    tcc_table_print(table, &session->out, 2, 0);
    tcc_table_free(table);
}

static void step_json(cJSON *requests, const struct trace *trace, const struct step *step)
{
    static const char *const states[] = {"overwritten", "left", "absent", "under-way", "ok", "failed"};
    const struct tcw_stats_record *any = step->any;
    cJSON *item = tcc_json_object(requests, NULL), *ranks;

    tcc_json_u64(item, "step", step->number);
    tcc_json_u64(item, "plan_id", any->plan_id);
    tcc_json_text(item, "op", tcw_op_name((unsigned)any->op));
    tcc_json_text(item, "dtype", tcw_dtype_name((unsigned)any->dtype));
    tcc_json_text(item, "fusion", tcw_fusion_name((unsigned)any->fusion));
    tcc_json_text(item, "strategy", tcw_strategy_name((unsigned)any->strategy));
    tcc_json_text(item, "lane", tcw_lane_name((unsigned)any->lane));
    tcc_json_u64(item, "bytes", any->bytes);
    tcc_json_u64(item, "submit_ns", step->submit_ns);
    tcc_json_u64(item, "start_ns", step->start_ns);
    tcc_json_u64(item, "end_ns", step->end_ns ? step->end_ns : TCC_ABSENT);
    tcc_json_u64(item, "last_rank", step->last < TCW_MAX_RANKS ? step->last : TCC_ABSENT);
    tcc_json_u64(item, "last_behind_ns", step->last < TCW_MAX_RANKS ? step->behind_ns : TCC_ABSENT);
    tcc_json_bool(item, "outlier", step->outlier);
    ranks = tcc_json_array(item, "ranks");
    for (unsigned rank = 0; rank < trace->ranks; rank++) {
        const struct tcw_stats_record *record = step->records[rank];
        cJSON *row = tcc_json_object(ranks, NULL);

        tcc_json_u64(row, "rank", rank);
        tcc_json_text(row, "state", states[step->states[rank]]);
        tcc_json_u64(row, "submit_ns", record ? record->submit_ns : TCC_ABSENT);
        tcc_json_u64(row, "start_ns", record ? record->start_ns : TCC_ABSENT);
        tcc_json_u64(row, "end_ns", record && record->end_ns ? record->end_ns : TCC_ABSENT);
        tcc_json_text(row, "error", record && tcc_or_zero(record->result) ? result_name(record->result) : NULL);
    }
}

static void trace_json(cJSON *traces, const struct trace *trace, size_t count)
{
    cJSON *item = tcc_json_object(traces, NULL), *requests;
    size_t steps = trace_steps(trace), skip = steps > count ? steps - count : 0, index = 0;

    tcc_json_text(item, "group", trace->group->name);
    tcc_json_u64(item, "epoch", trace->group->epoch);
    tcc_json_text(item, "state", tcc_group_state_name(trace->group->state));
    tcc_json_text(item, "lane", tcw_lane_name((unsigned)trace->lane));
    tcc_json_u64(item, "size", trace->group->size);
    requests = tcc_json_array(item, "requests");
    for (size_t at = 0; at < trace->record_count; index++) {
        struct step step;

        take_step(trace, &at, &step);
        if (index >= skip)
            step_json(requests, trace, &step);
    }
}

static bool wanted(const struct tcc_session *session, const struct tcw_stats_group *group)
{
    return !session->argument_count || strcmp(session->arguments[0], group->name) == 0;
}

static bool wanted_lane(const char *wish, tcw_lane lane)
{
    return !wish || strcmp(wish, tcw_lane_name((unsigned)lane)) == 0;
}

static void print_legend(struct tcc_session *session, const struct tcc_snapshot *snapshot, bool by_rank)
{
    char text[400];

    snprintf(
        text, sizeof text, "SUBMIT is relative to %s%s, START and END to the first submission of the step%s",
        snapshot->life == TCC_LIFE_OK ? "now" : "the daemon's last heartbeat", by_rank ? " (further ranks: to the first submission)" : "",
        by_rank ? "." : ": when the last rank began, and ended. LAST is the rank that ended last, and how long behind the one before it.");
    fputc('\n', session->out.file);
    tcc_print_wrapped(&session->out, TCC_DIM, 0, 0, text);
}

static tcc_exit print_all(struct tcc_session *session, const struct tcc_snapshot *snapshot, size_t count)
{
    cJSON *document = session->json ? tcc_json_begin("dump", snapshot) : NULL;
    cJSON *traces = document ? tcc_json_array(document, "traces") : NULL;
    bool by_rank = tcc_option(session, "ranks");
    size_t printed = 0, groups = 0;

    if (!document)
        tcc_session_caution(session, snapshot);
    for (size_t i = 0; i < snapshot->group_count; i++) {
        if (!wanted(session, &snapshot->groups[i]))
            continue;
        groups++;
        for (int lane = TCW_LANE_DIRECT; lane <= TCW_LANE_SERVED; lane++) {
            struct trace trace;

            if (!wanted_lane(tcc_option(session, "lane"), (tcw_lane)lane) ||
                !trace_open(&trace, snapshot, &snapshot->groups[i], (tcw_lane)lane))
                continue;
            if (document) {
                trace_json(traces, &trace, count);
                continue;
            }
            if (printed++)
                fputc('\n', session->out.file);
            print_trace(session, &trace, count, by_rank);
        }
    }
    if (session->argument_count && !groups) {
        cJSON_Delete(document);
        return tcc_complain(session, TCC_EXIT_FAILURE, "no group is called \"%s\" (trtcollctl groups --names lists them)",
                            session->arguments[0]);
    }
    if (document)
        tcc_json_end(document, session->out.file, session->compact);
    else if (!printed)
        fputs("no requests are recorded\n", session->out.file);
    else
        print_legend(session, snapshot, by_rank);
    return TCC_EXIT_OK;
}

static tcc_exit run(struct tcc_session *session)
{
    const char *lane = tcc_option(session, "lane");
    struct tcc_snapshot snapshot;
    unsigned long long count = 8;
    tcc_exit code;

    if (!tcc_option_u64(session, "count", 1, TCW_STATS_RECORDS_PER_MEMBER, &count))
        return TCC_EXIT_USAGE;
    if (lane && strcmp(lane, "direct") != 0 && strcmp(lane, "served") != 0)
        return tcc_misuse(session, "--lane: found \"%s\", allowed: direct, served", lane);
    code = tcc_session_snapshot(session, TCC_LOAD_RECORDS, &snapshot);
    if (code)
        return code;
    code = print_all(session, &snapshot, count);
    tcc_snapshot_free(&snapshot);
    return code;
}

const struct tcc_command tcc_command_dump = {
    .name = "dump",
    .arguments = "[GROUP]",
    .help = "the last requests of every group, or of one",
    .details = "Outliers are marked: ! ranks that did not arrive while others waited, * the rank that ended long after the others.\n"
               "Works while the daemon is stuck and after it has died. Ranks that have left the group took their records along.",
    .options = options,
    .max_arguments = 1,
    .run = run,
};
