/*
 * The results twice: tables for people, JSON for programs. Goals stand beside what was measured.
 */
#include "cuda.h"

#include "../json_text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SCHEMA_VERSION = 1 };

/* What we want; the ratios of the direct lane are in figures.c. */
#define GOAL_FP8_US         0.3   /* more than the norm alone */
#define GOAL_SERVED_US      5.0   /* more than NCCL, up to 1 MB, client computing */
#define GOAL_BANDWIDTH      0.985 /* of NCCL's, 64 MB and up */
#define GOAL_SERVED_HOST_US 3.0
#define GOAL_DIRECT_HOST_US 4.0
#define GOAL_HOST_P99_US    10.0
#define GOAL_RESTART_MS     50.0
#define GOAL_MEMORY         0.10
enum { SMALL_BYTES = 1 << 20, LARGE_BYTES = 64 << 20 };

static const char *const lane_names[CUDA_LANES] = {"direct", "served"};

static const char *strategy_name(uint32_t strategy)
{
    static const char *const names[] = {"nccl",    "min-latency",  "ub",    "auto",           "oneshot",
                                        "twoshot", "lowprecision", "mnnvl", "nccl-symmetric", "symm-mem"};
    return strategy < sizeof(names) / sizeof(names[0]) ? names[strategy] : "?";
}

static void size_text(uint64_t bytes, char *text, size_t size)
{
    if (bytes >= 1u << 20)
        snprintf(text, size, "%llu MB", (unsigned long long)(bytes >> 20));
    else
        snprintf(text, size, "%llu KB", (unsigned long long)(bytes >> 10));
}

static double over(double ours, double theirs)
{
    return ours > 0 && theirs > 0 ? ours / theirs : 0;
}

/* ---- text ---- */

/* A number in its column, or a dash. */
static void cell(FILE *to, int width, int digits, double value)
{
    if (value > 0)
        fprintf(to, " %*.*f", width, digits, value);
    else
        fprintf(to, " %*s", width, "-");
}

static void verdict(FILE *to, bool measured, bool good)
{
    fprintf(to, " %s", !measured ? "" : good ? "reached" : "missed");
}

static void print_note(FILE *to, const char *note)
{
    if (note[0])
        fprintf(to, "  not all: %s\n", note);
}

/* goal_p99_us: 0 where nothing is wanted. */
static void print_host(const struct cuda_stage *stage, double goal_us, double goal_p99_us, const char *theirs, FILE *to)
{
    if (stage->host_mean_us <= 0)
        return;
    fprintf(to, "  host time of one plan_run: mean %.2f us (wanted %.0f), p99 %.2f us", stage->host_mean_us, goal_us, stage->host_p99_us);
    if (goal_p99_us > 0)
        fprintf(to, " (wanted %.0f)", goal_p99_us);
    fprintf(to, "; a small kernel's launch alone: mean %.2f us", stage->launch_mean_us);
    if (stage->nccl_host_mean_us > 0)
        fprintf(to, "; %s: %.2f us", theirs, stage->nccl_host_mean_us);
    fprintf(to, "\n");
}

static void print_direct(const struct settings *settings, const struct cuda_results *results, uint32_t part, FILE *to)
{
    static const char *const titles[] = {"plain", "+ residual + RMSNorm; NCCL + one separate norm kernel",
                                         "+ residual + RMSNorm + FP8; NCCL + one separate norm kernel"};
    const struct cuda_stage *stage = &results->stages[part];
    fprintf(to, "\ndirect lane, %s; one graph of 50\n", titles[part]);
    fprintf(to, "%8s %9s %9s %7s %7s %9s %8s  %-8s %9s  %-10s%s\n", "message", "NCCL us", "ours us", "ratio", "wanted", "NCCL GB/s", "GB/s",
            "bound by", "at us", "strategy", part == PART_FP8 ? "over norm" : "");
    for (uint32_t i = 0; i < stage->count; i++) {
        const struct cuda_times *times = &stage->times[i];
        const double goal = figures_goal(part, settings->ranks, stage->sizes[i]), ratio = over(times->ours, times->nccl);
        char text[32];
        double bound;
        bool wire;
        size_text(stage->sizes[i], text, sizeof(text));
        fprintf(to, "%8s", text);
        cell(to, 9, 2, times->nccl);
        cell(to, 9, 2, times->ours);
        cell(to, 7, 2, ratio);
        cell(to, 7, 2, goal);
        cell(to, 9, 1, figures_bus_bandwidth(stage->sizes[i], times->nccl, settings->ranks));
        cell(to, 8, 1, figures_bus_bandwidth(stage->sizes[i], times->ours, settings->ranks));
        bound = figures_bound(settings->ranks, stage->sizes[i], &wire);
        fprintf(to, "  %-8s %9.2f  %-10s", wire ? "wire" : "hops", bound, times->ours > 0 ? strategy_name(times->strategy) : "-");
        if (times->norm > 0 && times->ours > 0) {
            double more = times->ours - times->norm;
            fprintf(to, "%+.2f us, wanted %.1f", more, GOAL_FP8_US);
            verdict(to, true, more < GOAL_FP8_US);
        } else {
            verdict(to, ratio > 0 && goal > 0, ratio <= goal);
        }
        fprintf(to, "\n");
    }
    print_host(stage, GOAL_DIRECT_HOST_US, 0, part == PART_DIRECT ? "NCCL's call" : "NCCL's call and the norm kernel's launch", to);
    print_note(to, stage->note);
}

static void print_served(const struct settings *settings, const struct cuda_stage *stage, const char *title, FILE *to)
{
    fprintf(to, "\nserved lane, %s; stream time per request, batches of 50\n", title);
    fprintf(to, "computing: a small kernel before each operation, its time included on both sides; NCCL always in a graph\n");
    fprintf(to, "%8s | %29s | %27s | %26s |\n", "", "alone", "computing", "bus bandwidth, alone");
    fprintf(to, "%8s | %9s %9s %9s | %9s %9s %7s | %9s %8s %7s | %s\n", "message", "NCCL us", "ours us", "in graph", "NCCL us", "ours us",
            "+ us", "NCCL GB/s", "GB/s", "ratio", "strategy");
    for (uint32_t i = 0; i < stage->count; i++) {
        const struct cuda_times *times = &stage->times[i];
        const double theirs = figures_bus_bandwidth(stage->sizes[i], times->nccl, settings->ranks);
        const double ours = figures_bus_bandwidth(stage->sizes[i], times->ours, settings->ranks);
        const bool computed = times->nccl_computing > 0 && times->ours_computing > 0;
        const double more = computed ? times->ours_computing - times->nccl_computing : 0;
        char text[32];
        size_text(stage->sizes[i], text, sizeof(text));
        fprintf(to, "%8s |", text);
        cell(to, 9, 2, times->nccl);
        cell(to, 9, 2, times->ours);
        cell(to, 9, 2, times->ours_captured);
        fprintf(to, " |");
        cell(to, 9, 2, times->nccl_computing);
        cell(to, 9, 2, times->ours_computing);
        if (computed)
            fprintf(to, " %+7.2f |", more);
        else
            fprintf(to, " %7s |", "-");
        cell(to, 9, 1, theirs);
        cell(to, 8, 1, ours);
        cell(to, 7, 3, over(ours, theirs));
        fprintf(to, " | %s", times->ours > 0 ? strategy_name(times->strategy) : "-");
        if (stage->sizes[i] <= SMALL_BYTES)
            verdict(to, computed, more <= GOAL_SERVED_US);
        else if (stage->sizes[i] >= LARGE_BYTES)
            verdict(to, theirs > 0 && ours > 0, over(ours, theirs) >= GOAL_BANDWIDTH);
        fprintf(to, "\n");
    }
    fprintf(to, "  wanted with MPS: at most %.0f us more than NCCL up to 1 MB, computing; %.3f of its bandwidth from 64 MB\n",
            GOAL_SERVED_US, GOAL_BANDWIDTH);
    print_host(stage, GOAL_SERVED_HOST_US, GOAL_HOST_P99_US, "NCCL's call", to);
    print_note(to, stage->note);
}

static void print_restart(const struct cuda_restart *restart, FILE *to)
{
    fprintf(to, "\nrestarted clients: from trtcoll_ctx_open to the first all-reduce done, all ranks, after SIGKILL of all\n");
    for (uint32_t lane = 0; lane < CUDA_LANES; lane++) {
        fprintf(to, "  %s lane: first time", lane_names[lane]);
        cell(to, 1, 1, restart->cold_ms[lane]);
        fprintf(to, " ms, restarted");
        cell(to, 1, 1, restart->warm_ms[lane]);
        fprintf(to, " ms (group %.1f, memory %.1f, plan %.1f, run %.1f), wanted %.0f", restart->join_ms[lane], restart->alloc_ms[lane],
                restart->plan_ms[lane], restart->run_ms[lane], GOAL_RESTART_MS);
        verdict(to, restart->warm_ms[lane] > 0, restart->warm_ms[lane] < GOAL_RESTART_MS);
        fprintf(to, "\n");
    }
    fprintf(to, "  NCCL in process, set-up and first all-reduce:");
    cell(to, 1, 1, restart->nccl_ms);
    fprintf(to, " ms; before either, opening the GPU:");
    cell(to, 1, 1, restart->context_ms);
    fprintf(to, " ms\n");
    print_note(to, restart->note);
}

static void print_memory(const struct cuda_memory *memory, FILE *to)
{
    const double mb = 1 << 20, share = memory->first ? (double)memory->second / (double)memory->first : 0;
    if (memory->measured) {
        fprintf(to,
                "\nmemory of the GPU: executor's context %.0f MB; the first engine's communicator, workspaces, kernels %.0f MB; a second\n"
                "engine on the same group shapes %.0f MB more: %.1f %%, wanted %.0f %%",
                (double)memory->executor / mb, (double)memory->first / mb, (double)memory->second / mb, share * 100, GOAL_MEMORY * 100);
        verdict(to, true, share < GOAL_MEMORY);
        fprintf(to, "\n");
    } else {
        fprintf(to, "\nmemory of the GPU for a second engine on the same group shapes: not measured, wanted %.0f %% of the first's\n",
                GOAL_MEMORY * 100);
    }
    print_note(to, memory->note);
    if (memory->ctl[0])
        fprintf(to, "$ trtcollctl memory\n%s", memory->ctl);
}

static void version_text(uint32_t major, uint32_t minor, int patch, char *text, size_t size)
{
    if (!major && !minor)
        snprintf(text, size, "none");
    else if (patch >= 0)
        snprintf(text, size, "%u.%u.%d", major, minor, patch);
    else
        snprintf(text, size, "%u.%u", major, minor);
}

struct versions {
    char cuda[32], nccl[32], date[32];
};

static void versions_of(const struct cuda_facts *facts, struct versions *versions)
{
    time_t now = time(NULL);
    struct tm utc;
    version_text(facts->cuda / 1000, facts->cuda % 1000 / 10, -1, versions->cuda, sizeof(versions->cuda));
    version_text(facts->nccl / 10000, facts->nccl / 100 % 100, (int)(facts->nccl % 100), versions->nccl, sizeof(versions->nccl));
    strftime(versions->date, sizeof(versions->date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

void cuda_report_text(const struct settings *settings, const struct cuda_results *results, FILE *to)
{
    const struct cuda_facts *facts = &results->facts;
    struct versions versions;
    versions_of(facts, &versions);
    fprintf(to, "trtcoll-bench %s: %u of %u %s, SM %u.%u, driver %s, CUDA %s, NCCL %s, MPS %s, %s\n", trtcoll_version(), settings->ranks,
            facts->gpus, facts->gpu, facts->compute / 10, facts->compute % 10, facts->driver[0] ? facts->driver : "unknown", versions.cuda,
            versions.nccl, facts->mps ? "on" : "off", versions.date);
    fprintf(to, "%s\nall-reduce of bf16, hidden %d; one process per GPU; median of %u replays, slowest rank; results checked\n",
            settings->command, FIGURES_HIDDEN, settings->replays);
    for (uint32_t part = 0; part < STAGES; part++) {
        if (!(settings->parts & 1u << part))
            continue;
        if (part <= PART_FP8)
            print_direct(settings, results, part, to);
        else
            print_served(settings, &results->stages[part], part == PART_SERVED ? "strategy as the daemon chooses" : "strategy NCCL", to);
        if (results->stages[part].setup_ms > 0)
            fprintf(to, "  NCCL's communicator, in process: %.0f ms\n", results->stages[part].setup_ms);
    }
    if (settings->parts & 1u << PART_RESTART)
        print_restart(&results->restart, to);
    if (settings->parts & 1u << PART_MEMORY)
        print_memory(&results->memory, to);
}

/* ---- JSON ---- */

static void put_member(FILE *to, const char *key, const char *text)
{
    fprintf(to, "\"%s\": ", key);
    json_text(to, text);
}

/* ", key: value", null where nothing was measured. */
static void put_number(FILE *to, const char *key, double value)
{
    if (value > 0)
        fprintf(to, ", \"%s\": %.4f", key, value);
    else
        fprintf(to, ", \"%s\": null", key);
}

static void put_size(const struct settings *settings, uint32_t part, uint64_t bytes, const struct cuda_times *times, FILE *to)
{
    bool wire;
    fprintf(to, "\n      {\"bytes\": %llu, \"strategy\": ", (unsigned long long)bytes);
    if (times->ours > 0)
        fprintf(to, "\"%s\"", strategy_name(times->strategy));
    else
        fprintf(to, "null");
    put_number(to, "us", times->ours);
    put_number(to, "nccl_us", times->nccl);
    put_number(to, "ratio", over(times->ours, times->nccl));
    put_number(to, "wanted_ratio", figures_goal(part, settings->ranks, bytes));
    put_number(to, "bound_us", part <= PART_FP8 ? figures_bound(settings->ranks, bytes, &wire) : 0);
    put_number(to, "bus_gb_per_s", figures_bus_bandwidth(bytes, times->ours, settings->ranks));
    put_number(to, "nccl_bus_gb_per_s", figures_bus_bandwidth(bytes, times->nccl, settings->ranks));
    put_number(to, "computing_us", times->ours_computing);
    put_number(to, "nccl_computing_us", times->nccl_computing);
    put_number(to, "captured_us", times->ours_captured);
    put_number(to, "norm_us", times->norm);
    fprintf(to, "}");
}

static void put_stage(const struct settings *settings, uint32_t part, const struct cuda_stage *stage, FILE *to)
{
    fprintf(to, ",\n  \"%s\": {\"complete\": %s, ", figures_part_name(part), stage->measured ? "true" : "false");
    put_member(to, "note", stage->note);
    put_number(to, "host_mean_us", stage->host_mean_us);
    put_number(to, "host_p99_us", stage->host_p99_us);
    put_number(to, "nccl_host_mean_us", stage->nccl_host_mean_us);
    put_number(to, "launch_mean_us", stage->launch_mean_us);
    put_number(to, "nccl_setup_ms", stage->setup_ms);
    fprintf(to, ", \"sizes\": [");
    for (uint32_t i = 0; i < stage->count; i++) {
        fprintf(to, "%s", i ? "," : "");
        put_size(settings, part, stage->sizes[i], &stage->times[i], to);
    }
    fprintf(to, "\n    ]}");
}

static void put_restart(const struct cuda_restart *restart, FILE *to)
{
    fprintf(to, ",\n  \"restart\": {\"complete\": %s, ", restart->measured ? "true" : "false");
    put_member(to, "note", restart->note);
    put_number(to, "open_gpu_ms", restart->context_ms);
    put_number(to, "nccl_ms", restart->nccl_ms);
    for (uint32_t lane = 0; lane < CUDA_LANES; lane++) {
        fprintf(to, ", \"%s\": {\"wanted_ms\": %.1f", lane_names[lane], GOAL_RESTART_MS);
        put_number(to, "first_ms", restart->cold_ms[lane]);
        put_number(to, "restarted_ms", restart->warm_ms[lane]);
        put_number(to, "join_ms", restart->join_ms[lane]);
        put_number(to, "memory_ms", restart->alloc_ms[lane]);
        put_number(to, "plan_ms", restart->plan_ms[lane]);
        put_number(to, "run_ms", restart->run_ms[lane]);
        fprintf(to, "}");
    }
    fprintf(to, "}");
}

static void put_memory(const struct cuda_memory *memory, FILE *to)
{
    fprintf(to, ",\n  \"memory\": {\"complete\": %s, ", memory->measured ? "true" : "false");
    put_member(to, "note", memory->note);
    if (memory->measured)
        fprintf(to, ", \"executor_bytes\": %llu, \"first_engine_bytes\": %llu, \"second_engine_bytes\": %llu",
                (unsigned long long)memory->executor, (unsigned long long)memory->first, (unsigned long long)memory->second);
    else
        fprintf(to, ", \"executor_bytes\": null, \"first_engine_bytes\": null, \"second_engine_bytes\": null");
    fprintf(to, ", \"wanted_share\": %.2f, ", GOAL_MEMORY);
    put_member(to, "trtcollctl", memory->ctl);
    fprintf(to, "}");
}

void cuda_report_json(const struct settings *settings, const struct cuda_results *results, FILE *to)
{
    const struct cuda_facts *facts = &results->facts;
    struct versions versions;
    versions_of(facts, &versions);
    fprintf(to, "{\n  \"schema_version\": %d,\n  \"device\": \"cuda\",\n  ", SCHEMA_VERSION);
    put_member(to, "version", trtcoll_version());
    fprintf(to, ",\n  ");
    put_member(to, "date", versions.date);
    fprintf(to, ",\n  ");
    put_member(to, "command", settings->command);
    fprintf(to, ",\n  \"machine\": {\"gpus\": %u, ", facts->gpus);
    put_member(to, "gpu", facts->gpu);
    fprintf(to, ", \"compute\": %u, ", facts->compute);
    put_member(to, "driver", facts->driver);
    fprintf(to, ", ");
    put_member(to, "cuda", versions.cuda);
    fprintf(to, ", ");
    put_member(to, "nccl", versions.nccl);
    fprintf(to, ", \"mps\": %s},\n  \"settings\": {\"ranks\": %u, \"dtype\": \"bf16\", \"hidden\": %d, \"replays\": %u}",
            facts->mps ? "true" : "false", settings->ranks, FIGURES_HIDDEN, settings->replays);
    for (uint32_t part = 0; part < STAGES; part++)
        if (settings->parts & 1u << part)
            put_stage(settings, part, &results->stages[part], to);
    if (settings->parts & 1u << PART_RESTART)
        put_restart(&results->restart, to);
    if (settings->parts & 1u << PART_MEMORY)
        put_memory(&results->memory, to);
    fprintf(to, "\n}\n");
}
