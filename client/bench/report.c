/*
 * The same results twice: a table for people, JSON for programs.
 */
#include "bench.h"
#include "json_text.h"
#include "pin.h"

#include <stdio.h>

enum { SCHEMA_VERSION = 1 };

static const char *const peer_keys[PEERS] = {"direct", "served", "open_mpi"};
static const char *const soak_names[2] = {"direct", "served"};

static const char *size_text(uint64_t bytes, char *text, size_t size)
{
    if (bytes >= 1u << 20)
        snprintf(text, size, "%llu MiB", (unsigned long long)(bytes >> 20));
    else if (bytes >= 1u << 10)
        snprintf(text, size, "%llu KiB", (unsigned long long)(bytes >> 10));
    else
        snprintf(text, size, "%llu B", (unsigned long long)bytes);
    return text;
}

static void print_time(double ns, uint64_t bytes)
{
    if (ns > 0)
        printf(" | %10.2f %7.2f", ns / 1e3, (double)bytes / ns);
    else
        printf(" | %10s %7s", "-", "-");
}

static void print_ratio(double ours, double theirs)
{
    if (ours > 0 && theirs > 0)
        printf(" %7.2f", ours / theirs);
    else
        printf(" %7s", "-");
}

static void print_sweep(const struct settings *settings, const struct sweep_result *sweep)
{
    char text[32];
    printf("all-reduce of %s, sum, %u ranks; slowest rank, median of %u rounds; Open MPI: %s\n\n", settings->bf16 ? "bf16" : "fp32",
           settings->ranks, settings->rounds, sweep->mpi);
    printf("%9s | %18s | %18s | %18s | %7s %7s %7s\n", "", "direct", "served", "Open MPI", "direct", "served", "served");
    printf("%9s | %10s %7s | %10s %7s | %10s %7s | %7s %7s %7s\n", "message", "us", "GB/s", "us", "GB/s", "us", "GB/s", "/MPI", "/MPI",
           "/direct");
    for (uint32_t i = 0; i < sweep->count; i++) {
        printf("%9s", size_text(sweep->sizes[i], text, sizeof(text)));
        for (uint32_t peer = 0; peer < PEERS; peer++)
            print_time(sweep->ns[peer][i], sweep->sizes[i]);
        printf(" |");
        print_ratio(sweep->ns[PEER_DIRECT][i], sweep->ns[PEER_MPI][i]);
        print_ratio(sweep->ns[PEER_SERVED][i], sweep->ns[PEER_MPI][i]);
        print_ratio(sweep->ns[PEER_SERVED][i], sweep->ns[PEER_DIRECT][i]);
        printf("\n");
    }
}

static void print_soak(const struct settings *settings, const char *name, const struct soak_result *soak)
{
    printf("soak, %s lane: %u ranks for %.1f s, %.0f of %.0f runs per second and rank, %llu bytes each\n", name, settings->ranks,
           soak->seconds, soak->rate, settings->soak_rate, (unsigned long long)settings->soak_bytes);
    printf("  submitted %llu, completed %llu, lost %llu, failed %llu, wrong %llu; latency median %.1f us, p99 %.1f us, max %.1f us\n",
           (unsigned long long)soak->submitted, (unsigned long long)soak->completed, (unsigned long long)soak->lost,
           (unsigned long long)soak->failed, (unsigned long long)soak->wrong, soak->median_ns / 1e3, soak->p99_ns / 1e3,
           soak->max_ns / 1e3);
}

static void print_binding(uint32_t ranks)
{
    printf("ranks are bound to processors");
    for (uint32_t rank = 0; rank < ranks; rank++)
        printf(" %d", pin_processor(rank));
    printf(", executors are not bound\n");
}

void report_text(const struct settings *settings, const struct results *results)
{
    const struct machine *machine = &results->machine;
    printf("trtcoll-bench %s on %s, %u processors, %s\n", machine->library, machine->cpu, machine->processors, machine->kernel);
    print_binding(settings->ranks);
    if (results->ring.measured)
        printf("ring round trip: median %.2f us, p99 %.2f us, min %.2f us (%llu served barriers of one rank)\n",
               results->ring.median_ns / 1e3, results->ring.p99_ns / 1e3, results->ring.min_ns / 1e3,
               (unsigned long long)results->ring.samples);
    if (results->idle.measured)
        printf("idle daemon: %.3f %% of a core (control process %.3f %%, %u executors %.3f %%) over %.1f s, %u clients attached\n",
               results->idle.control_percent + results->idle.executor_percent, results->idle.control_percent, results->idle.executors,
               results->idle.executor_percent, results->idle.seconds, results->idle.clients);
    if (results->sweep.count > 0)
        print_sweep(settings, &results->sweep);
    for (uint32_t i = 0; i < 2; i++)
        if (results->soak[i].measured)
            print_soak(settings, soak_names[i], &results->soak[i]);
}

static void put_member(const char *key, const char *text)
{
    printf("\"%s\": ", key);
    json_text(stdout, text);
}

static void put_peer(const char *key, double ns, uint64_t bytes)
{
    if (ns > 0)
        printf(", \"%s\": {\"us\": %.3f, \"gb_per_s\": %.4f}", key, ns / 1e3, (double)bytes / ns);
    else
        printf(", \"%s\": null", key);
}

static void put_ratio(const char *key, double ours, double theirs)
{
    if (ours > 0 && theirs > 0)
        printf(", \"%s\": %.4f", key, ours / theirs);
    else
        printf(", \"%s\": null", key);
}

static void json_sweep(const struct sweep_result *sweep)
{
    printf(",\n  ");
    put_member("open_mpi", sweep->mpi);
    printf(",\n  \"all_reduce\": [");
    for (uint32_t i = 0; i < sweep->count; i++) {
        const double direct = sweep->ns[PEER_DIRECT][i], served = sweep->ns[PEER_SERVED][i], mpi = sweep->ns[PEER_MPI][i];
        printf("%s\n    {\"bytes\": %llu", i ? "," : "", (unsigned long long)sweep->sizes[i]);
        for (uint32_t peer = 0; peer < PEERS; peer++)
            put_peer(peer_keys[peer], sweep->ns[peer][i], sweep->sizes[i]);
        put_ratio("direct_over_mpi", direct, mpi);
        put_ratio("served_over_mpi", served, mpi);
        put_ratio("served_over_direct", served, direct);
        printf("}");
    }
    printf("\n  ]");
}

static void json_soak(const char *name, const struct soak_result *soak)
{
    printf(
        ",\n  \"soak_%s\": {\"seconds\": %.3f, \"rate\": %.1f, \"submitted\": %llu, \"completed\": %llu, \"lost\": %llu, \"failed\": %llu, "
        "\"wrong\": %llu, \"median_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f}",
        name, soak->seconds, soak->rate, (unsigned long long)soak->submitted, (unsigned long long)soak->completed,
        (unsigned long long)soak->lost, (unsigned long long)soak->failed, (unsigned long long)soak->wrong, soak->median_ns / 1e3,
        soak->p99_ns / 1e3, soak->max_ns / 1e3);
}

void report_json(const struct settings *settings, const struct results *results)
{
    printf("{\n  \"schema_version\": %d,\n  ", SCHEMA_VERSION);
    put_member("version", results->machine.library);
    printf(",\n  \"machine\": {");
    put_member("cpu", results->machine.cpu);
    printf(", \"processors\": %u, ", results->machine.processors);
    put_member("kernel", results->machine.kernel);
    printf("},\n  \"settings\": {\"ranks\": %u, \"dtype\": \"%s\", \"rounds\": %u, \"budget_ms\": %.3f}", settings->ranks,
           settings->bf16 ? "bf16" : "fp32", settings->rounds, (double)settings->budget_ns / 1e6);
    if (results->ring.measured)
        printf(",\n  \"ring_round_trip\": {\"samples\": %llu, \"median_us\": %.3f, \"p99_us\": %.3f, \"min_us\": %.3f}",
               (unsigned long long)results->ring.samples, results->ring.median_ns / 1e3, results->ring.p99_ns / 1e3,
               results->ring.min_ns / 1e3);
    if (results->idle.measured)
        printf(
            ",\n  \"idle\": {\"seconds\": %.3f, \"control_percent\": %.4f, \"executor_percent\": %.4f, \"executors\": %u, \"clients\": %u}",
            results->idle.seconds, results->idle.control_percent, results->idle.executor_percent, results->idle.executors,
            results->idle.clients);
    if (results->sweep.count > 0)
        json_sweep(&results->sweep);
    for (uint32_t i = 0; i < 2; i++)
        if (results->soak[i].measured)
            json_soak(soak_names[i], &results->soak[i]);
    printf("\n}\n");
}
