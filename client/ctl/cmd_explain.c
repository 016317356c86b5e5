/* explain: what the daemon would choose for a collective, what it would not, and why. */
#include "admin.h"
#include "command.h"
#include "shape.h"
#include "snapshot.h"
#include "text.h"

#include <string.h>

static const struct tcc_option options[] = {
    {"group", "NAME", "of the ranks of this group", 'g'},
    {"ranks", "N", "or of this many ranks (default: as many as there are sizes, else 2)", 'n'},
    {"dtype", "TYPE", "fp32 fp16 bf16 fp64 int8 ... (default bf16)", 'd'},
    {"fusion", "NAME", "epilogue of an all-reduce, such as residual-rms-norm", 'f'},
    {"strategy", "NAME", "as if the plan asked for it: oneshot twoshot ... (default auto)", 0},
    {"lane", "LANE", "as if the plan asked for it: direct or served (default auto)", 0},
    {"redop", "NAME", "sum min max prod avg (default sum)", 0},
    {"max-tokens", "N", "largest token count of the plan (default: of this run)", 0},
    {"eps", "NUMBER", "epsilon of the norm (default 1e-6)", 0},
    {"sizes", "A,B,...", "uneven extents of an all-gather or reduce-scatter, by rank; SHAPE then begins with 1", 0},
    {"root", "RANK", "of a broadcast (default 0)", 0},
    {"bias", NULL, "with a bias", 0},
    {"acc-fp32", NULL, "16-bit types accumulated in fp32", 0},
    {"graph", NULL, "to be captured in a CUDA graph", 0},
    {0},
};

/* Size of the group as the stats know it, for checking here what the daemon would refuse; 0: not known. */
static uint32_t group_size(struct tcc_session *session, const char *name)
{
    struct tcc_snapshot snapshot;
    const char *why;
    uint32_t size = 0;

    if (tcc_snapshot_load(session->stats_path, 0, false, &snapshot, &why))
        return 0;
    for (size_t i = 0; i < snapshot.group_count && !size; i++) {
        if (strcmp(snapshot.groups[i].name, name) == 0 && snapshot.groups[i].size <= TCW_MAX_RANKS)
            size = (uint32_t)snapshot.groups[i].size;
    }
    tcc_snapshot_free(&snapshot);
    return size;
}

static struct tcc_shape_request request_of(const struct tcc_session *session)
{
    return (struct tcc_shape_request){
        .op = session->arguments[0],
        .shape = session->argument_count > 1 ? session->arguments[1] : NULL,
        .dtype = tcc_option(session, "dtype"),
        .fusion = tcc_option(session, "fusion"),
        .strategy = tcc_option(session, "strategy"),
        .lane = tcc_option(session, "lane"),
        .redop = tcc_option(session, "redop"),
        .sizes = tcc_option(session, "sizes"),
        .root = tcc_option(session, "root"),
        .eps = tcc_option(session, "eps"),
        .max_tokens = tcc_option(session, "max-tokens"),
        .bias = tcc_option(session, "bias"),
        .acc_fp32 = tcc_option(session, "acc-fp32"),
        .graph = tcc_option(session, "graph"),
    };
}

static void print_question(struct tcc_session *session, const struct tcw_admin *question, uint32_t ranks)
{
    const struct tcw_plan_desc *desc = &question->desc;
    unsigned dtype = desc->tensor_count ? desc->tensors[0].dtype : desc->dtype;
    FILE *file = session->out.file;

    tcc_print(&session->out, TCC_BOLD, "%s", tcw_op_name(desc->op));
    if (desc->fusion)
        fprintf(file, "+%s", tcw_fusion_name(desc->fusion));
    if (session->argument_count > 1)
        fprintf(file, " of %s %s", session->arguments[1], tcw_dtype_name(dtype));
    if (*question->group)
        fprintf(file, " on group %s", question->group);
    if (ranks)
        fprintf(file, "%s %u rank%s", *question->group ? "," : " on", ranks, ranks == 1 ? "" : "s");
    if (ranks && desc->op != TCW_OP_BARRIER)
        fprintf(file, ": %s per rank and run", tcc_bytes(tcw_plan_message_bytes(desc, ranks, 0, question->tokens)).s);
    fputs("\n\n", file);
}

static const cJSON *member(const cJSON *reply, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(reply, name);
}

static void print_line(struct tcc_session *session, const cJSON *reply, const char *name, tcc_style style)
{
    const cJSON *value = member(reply, name);
    char text[400] = "-";

    if (cJSON_IsString(value))
        snprintf(text, sizeof text, "%s", value->valuestring);
    tcc_text_clean(text, !session->out.utf8);
    fprintf(session->out.file, "  %-9s ", name);
    tcc_print_wrapped(&session->out, style, 12, 12, text);
}

/* Which strategy serves which sizes; of interest when there is more than one. */
static void print_steps(struct tcc_session *session, const cJSON *steps)
{
    if (cJSON_GetArraySize(steps) < 2)
        return;
    tcc_print(&session->out, TCC_BOLD, "\nby message size\n");
    for (const cJSON *step = steps->child; step; step = step->next) {
        const cJSON *most = member(step, "max_bytes"), *strategy = member(step, "strategy");
        const cJSON *blocks = member(step, "blocks");
        char limit[64] = "larger";

        if (cJSON_IsNumber(most))
            snprintf(limit, sizeof limit, "up to %s", tcc_bytes((uint64_t)most->valuedouble).s);
        fprintf(session->out.file, "  %-16s %s", limit, cJSON_IsString(strategy) ? strategy->valuestring : "-");
        if (cJSON_IsNumber(blocks))
            fprintf(session->out.file, ", %d blocks", blocks->valueint);
        fputc('\n', session->out.file);
    }
}

/* "measured at 512 KiB: 3.94 us, at 1 MiB: 5.06 us" */
static void print_measured(FILE *file, const cJSON *measured)
{
    const char *before = "measured at";

    if (!cJSON_GetArraySize(measured))
        fputs("not measured", file);
    for (const cJSON *item = measured ? measured->child : NULL; item; item = item->next) {
        const cJSON *bytes = member(item, "bytes"), *us = member(item, "us");

        if (!cJSON_IsNumber(bytes) || !cJSON_IsNumber(us))
            continue;
        fprintf(file, "%s %s: %s", before, tcc_bytes((uint64_t)bytes->valuedouble).s, tcc_ns((uint64_t)(us->valuedouble * 1e3 + 0.5)).s);
        before = ", at";
    }
    fputc('\n', file);
}

/* What the strategies took where they were measured, at the sizes nearest to this one. */
static void print_times(struct tcc_session *session, const cJSON *reply)
{
    const cJSON *none = member(reply, "no_times"), *of = member(reply, "times_of"), *times = member(reply, "times");
    const cJSON *whose = cJSON_IsString(of) ? of : none;
    char text[400];

    if (!cJSON_IsString(whose))
        return;
    tcc_print(&session->out, TCC_BOLD, "\ntime of a run on the direct lane\n");
    for (const cJSON *item = whose == of && times ? times->child : NULL; item; item = item->next) {
        const cJSON *strategy = member(item, "strategy");

        fprintf(session->out.file, "  %-16s ", cJSON_IsString(strategy) ? strategy->valuestring : "-");
        print_measured(session->out.file, member(item, "measured"));
    }
    snprintf(text, sizeof text, "%s", whose->valuestring);
    tcc_text_clean(text, !session->out.utf8);
    fprintf(session->out.file, "  %-16s ", whose == of ? "by" : "not measured");
    tcc_print_wrapped(&session->out, TCC_PLAIN, 19, 19, text);
}

static void print_answer(struct tcc_session *session, const struct tcw_plan_desc *desc, const cJSON *reply)
{
    const cJSON *workspace = member(reply, "workspace_bytes"), *rejected = member(reply, "rejected");

    print_line(session, reply, "lane", TCC_GOOD);
    if (desc->op == TCW_OP_ALL_REDUCE) /* the others have one form */
        print_line(session, reply, "strategy", TCC_GOOD);
    print_line(session, reply, "why", TCC_PLAIN);
    if (cJSON_IsNumber(workspace))
        fprintf(session->out.file, "  workspace %s per rank\n", tcc_bytes((uint64_t)workspace->valuedouble).s);
    print_steps(session, member(reply, "steps"));
    if (cJSON_GetArraySize(rejected)) {
        tcc_print(&session->out, TCC_BOLD, "\nnot chosen\n");
        for (const cJSON *item = rejected->child; item; item = item->next) {
            const cJSON *what = member(item, "what"), *why = member(item, "why");

            fprintf(session->out.file, "  %-16s ", cJSON_IsString(what) ? what->valuestring : "-");
            tcc_print_wrapped(&session->out, TCC_PLAIN, 19, 19, cJSON_IsString(why) ? why->valuestring : "-");
        }
    }
    print_times(session, reply);
}

static tcc_exit answer(struct tcc_session *session, const struct tcw_admin *question, uint32_t ranks)
{
    struct tcc_answer reply;
    tcc_exit code = tcc_admin_ask(session, question, &reply);

    if (code)
        return code;
    code = tcc_answer_check(session, &reply);
    if (!code && session->json) {
        tcc_answer_json(session, &reply);
    } else if (!code) {
        const cJSON *size = member(reply.json, "ranks");

        print_question(session, question, cJSON_IsNumber(size) && size->valuedouble <= TCW_MAX_RANKS ? (uint32_t)size->valuedouble : ranks);
        print_answer(session, &question->desc, reply.json);
    }
    tcc_answer_free(&reply);
    return code;
}

static tcc_exit run(struct tcc_session *session)
{
    struct tcc_shape_request request = request_of(session);
    const char *group = tcc_option(session, "group"), *sizes = tcc_option(session, "sizes");
    struct tcw_admin question = {.command = TCW_ADMIN_EXPLAIN};
    struct tcw_complaint complaint;
    unsigned long long ranks = group ? 0 : sizes ? tcc_shape_ranks(sizes) : 2;

    if (!tcc_option_u64(session, "ranks", 1, TCW_MAX_RANKS, &ranks))
        return TCC_EXIT_USAGE;
    if (group && tcc_option(session, "ranks"))
        return tcc_misuse(session, "--group and --ranks exclude each other");
    if (group && strlen(group) >= sizeof question.group)
        return tcc_misuse(session, "--group: names have at most %zu characters", sizeof question.group - 1);
    if (tcc_shape_parse(&request, &question.desc, &question.tokens, &complaint))
        return tcc_misuse(session, "%s", complaint.text);
    if (group) {
        tcw_text_set(question.group, sizeof question.group, group);
        ranks = group_size(session, group);
    } else {
        question.size = (uint32_t)ranks;
    }
    if (ranks && sizes && tcc_shape_ranks(sizes) != ranks)
        return tcc_misuse(session, "sizes: found %u numbers, allowed: one for each of %llu ranks", tcc_shape_ranks(sizes), ranks);
    if (ranks && tcw_plan_desc_check(&question.desc, (uint32_t)ranks, &complaint))
        return tcc_misuse(session, "%s", complaint.text);
    return answer(session, &question, (uint32_t)ranks);
}

const struct tcc_command tcc_command_explain = {
    .name = "explain",
    .arguments = "OP [SHAPE]",
    .help = "which lane and strategy would be chosen, and why",
    .details = "SHAPE is TOKENSxHIDDEN for all-reduce and ub-finalize (64x7168), the elements of one rank's tensor for the others (4096, "
               "or 64x7168: gathered\n"
               "along the first), nothing for barrier. Nothing is run and no plan is made; times are those of the tables.",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 2,
    .asks = true,
    .run = run,
};
