#include "report.h"
#include "processes.h"

#include <stdio.h>

/* Bytes as text: what is not printable becomes an escape. */
static void print_text(const uint8_t *bytes, uint32_t count)
{
    putchar('"');
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] == '\n')
            fputs("\\n", stdout);
        else if (bytes[i] == '"' || bytes[i] == '\\')
            printf("\\%c", bytes[i]);
        else if (bytes[i] < 0x20 || bytes[i] > 0x7e)
            printf("\\x%02x", bytes[i]);
        else
            putchar(bytes[i]);
    }
    puts("\"");
}

static void print_row(const char *name, const struct task *task, const struct decode_result *result, double calls, double prefill_wait_ns,
                      double decode_wait_ns)
{
    double decoded = result->count - 1, prefill_s = (double)result->prefill_ns / 1e9, decode_s = (double)result->decode_ns / 1e9;
    printf("%-9s %10.1f %10.1f", name, task->prompt_bytes / prefill_s, decoded > 0 ? decoded / decode_s : 0);
    if (calls > 0)
        printf(" %8.0f %9.1f ms %9.1f ms %6.1f us %6.1f %%\n", calls, prefill_wait_ns / 1e6, decode_wait_ns / 1e6,
               (prefill_wait_ns + decode_wait_ns) / calls / 1e3, 100 * (prefill_wait_ns + decode_wait_ns) / 1e9 / (prefill_s + decode_s));
    else
        printf(" %8s %12s %12s %9s %8s\n", "-", "-", "-", "-", "-");
}

static void print_table(const struct task *task, const struct shared *shared, const struct decode_result *reference)
{
    printf("\n%-9s %10s %10s %8s %12s %12s %9s %8s\n", "", "prefill", "decode", "", "", "collectives", "", "");
    printf("%-9s %10s %10s %8s %12s %12s %9s %8s\n", "lane", "tokens/s", "tokens/s", "calls", "in prefill", "in decode", "each", "share");
    print_row("one rank", task, reference, 0, 0, 0);
    for (uint32_t lane = 0; lane < LANES; lane++) {
        double calls = 0, prefill = 0, decode = 0;
        if (!task->lanes[lane])
            continue;
        for (uint32_t rank = 0; rank < RANKS; rank++) {
            const struct decode_result *result = &shared->ranks[rank].lanes[lane].result;
            calls += (double)(result->prefill_calls + result->decode_calls) / RANKS;
            prefill += (double)result->prefill_wait_ns / RANKS;
            decode += (double)result->decode_wait_ns / RANKS;
        }
        print_row(lane_names[lane], task, &shared->ranks[0].lanes[lane].result, calls, prefill, decode);
    }
    printf("time in collectives: mean of the ranks, waiting for the slowest rank included\n\n");
}

static bool same_bits(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

/* Every rank of a lane against the reference; the worst is told. The logits are gathered, so all ranks must have the same bits. */
static bool check_lane(const struct task *task, const struct shared *shared, uint32_t lane, const struct decode_result *reference,
                       const struct bounds *bounds)
{
    const struct decode_result *first = &shared->ranks[0].lanes[lane].result;
    struct comparison comparison = compare_results(first, reference, bounds);
    bool identical = true, finished = true;
    uint64_t staged = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const struct decode_result *result = &shared->ranks[rank].lanes[lane].result;
        identical = identical && same_bits(result->tokens, first->tokens, sizeof(first->tokens)) &&
                    same_bits(result->logits, first->logits, sizeof(first->logits));
        finished = finished && result->finished;
        staged += shared->ranks[rank].lanes[lane].staged_runs;
    }
    printf("%s: %u of %u tokens equal, logits differ by %.4f at most and %.4f rms, %s on all ranks, %llu runs copied: %s\n",
           lane_names[lane], comparison.equal_tokens, task->count, comparison.largest, comparison.rms,
           identical ? "identical" : "NOT IDENTICAL", (unsigned long long)staged,
           comparison.same && identical && finished ? "same" : "DIFFERENT");
    if (shared->ranks[0].lanes[lane].decision[0])
        printf("        %s\n", shared->ranks[0].lanes[lane].decision);
    return comparison.same && identical && finished;
}

int report(const struct task *task, const struct shared *shared, const struct decode_result *reference, const struct bounds *bounds)
{
    bool same = true;
    struct comparison self = compare_results(reference, reference, bounds);
    printf("output     ");
    print_text(reference->tokens, reference->count);
    printf("           (a model made from a seed has not learned to write)\n");
    print_table(task, shared, reference);
    printf("bound: %u roundings to bf16 (2^-9 / sqrt 3 each) may differ between one rank and four, times the head's rows: deviation %.4f;\n"
           "       the layers may amplify it 4 times, and the largest may be 5 deviations: logits %.4f at most, %.4f rms.\n"
           "       The best logit leads by %.2f or more: tokens cannot differ while logits stay within the bound.\n",
           bounds->roundings, bounds->deviation, bounds->largest, bounds->rms, self.margin);
    for (uint32_t lane = 0; lane < LANES; lane++)
        if (task->lanes[lane])
            same = check_lane(task, shared, lane, reference, bounds) && same;
    printf("\n%s\n", same ? "same tokens and logits on four ranks as on one" : "FOUR RANKS DIFFER FROM ONE");
    return same ? EXIT_SAME : EXIT_DIFFERENT;
}
