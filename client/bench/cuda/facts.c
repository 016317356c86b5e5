/* What is in the machine, asked by a process of its own. */
#include "cuda.h"
#include "nccl_peer.h"

#include <stdio.h>
#include <string.h>

enum { FACTS_S = 30 };

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  ...": the first word that begins with a digit and has a dot. */
static void describe_driver(char *text, size_t size)
{
    char line[256] = "", *rest = NULL;
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    if (!file)
        return;
    if (!fgets(line, sizeof(line), file))
        line[0] = 0;
    fclose(file);
    for (char *word = strtok_r(line, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest))
        if (*word >= '0' && *word <= '9' && strchr(word, '.')) {
            snprintf(text, size, "%s", word);
            return;
        }
}

static int facts_body(struct fleet_rank *rank)
{
    struct cuda_facts *facts = rank->slot;
    struct tck_device *first = NULL, *device;
    char why[192] = "";
    while (facts->gpus < BENCH_MAX_RANKS && tck_device_open(NULL, (int)facts->gpus, &device, why, sizeof(why)) == 0) {
        if (facts->gpus++ == 0)
            first = device;
        else
            tck_device_close(device);
    }
    if (!first) {
        fprintf(stderr, "trtcoll-bench: %s\n", why);
        return 0;
    }
    const struct tck_device_facts *found = tck_device_facts(first);
    snprintf(facts->gpu, sizeof(facts->gpu), "%s", found->name);
    facts->compute = found->compute;
    facts->cuda = found->driver;
    facts->mps = found->mps;
    facts->nccl = nccl_version();
    describe_driver(facts->driver, sizeof(facts->driver));
    return 0;
}

int cuda_facts_measure(const struct settings *settings, struct cuda_facts *facts)
{
    struct fleet *fleet = fleet_start_bare(settings, 1, sizeof(*facts), facts_body, NULL);
    int status = fleet ? fleet_wait(fleet, FACTS_S) : EXIT_FAILED;
    if (status == 0)
        *facts = *(const struct cuda_facts *)fleet_slot(fleet, 0);
    fleet_destroy(fleet);
    return status;
}
