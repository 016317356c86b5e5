#include "cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int measure_part(struct settings *settings, uint32_t part, struct cuda_results *results)
{
    if (part < STAGES)
        return cuda_stage_measure(settings, part, &results->stages[part]);
    return part == PART_RESTART ? cuda_restart_measure(settings, &results->restart) : cuda_memory_measure(settings, &results->memory);
}

/* A part that fails does not keep the others from being measured. */
static int measure(struct settings *settings, struct cuda_results *results)
{
    int status = 0;
    for (uint32_t part = 0; part < PARTS && !bench_interrupted(); part++) {
        if (!(settings->parts & 1u << part))
            continue;
        fprintf(stderr, "trtcoll-bench: measuring %s\n", figures_part_name(part));
        if (measure_part(settings, part, results) != 0)
            status = EXIT_FAILED;
    }
    return bench_interrupted() ? EXIT_FAILED : status;
}

static int save(const struct settings *settings, const struct cuda_results *results)
{
    FILE *file = fopen(settings->save_path, "w");
    if (file) {
        cuda_report_json(settings, results, file);
        if (fclose(file) == 0)
            return 0;
    }
    fprintf(stderr, "trtcoll-bench: %s: %s\n", settings->save_path, strerror(errno));
    return EXIT_FAILED;
}

int cuda_measure(struct settings *settings)
{
    static struct cuda_results results;
    /* Ranks count GPUs as the daemon does. */
    if (setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0) != 0 || cuda_facts_measure(settings, &results.facts) != 0)
        return EXIT_FAILED;
    if (results.facts.gpus < settings->ranks) {
        fprintf(stderr, "trtcoll-bench: %u ranks need as many GPUs, and there %s %u\n", settings->ranks,
                results.facts.gpus == 1 ? "is" : "are", results.facts.gpus);
        return EXIT_FAILED;
    }
    if (settings->tune_path)
        return cuda_tune(settings, &results.facts);
    int status = measure(settings, &results);
    (settings->json ? cuda_report_json : cuda_report_text)(settings, &results, stdout);
    int saved = settings->save_path ? save(settings, &results) : 0;
    return status != 0 ? status : saved;
}
