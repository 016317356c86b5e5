#include "figures.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[PARTS] = {"direct", "norm", "fp8", "served", "served-nccl", "restart", "memory"};

/*
 * Ratios to NCCL in the same run, and the same to NCCL and a kernel of its own for the norm. For four ranks they were set; for two they
 * follow from those: as far ahead of the fastest other implementation that we know.
 */
struct goal {
    uint64_t bytes;
    double plain[2], norm[2]; /* of 2 ranks, of 4 */
};

#define KB (UINT64_C(1) << 10)
#define MB (UINT64_C(1) << 20)

static const struct goal goals[] = {
    {16 * KB, {0.31, 0.25}, {0.41, 0.33}}, {64 * KB, {0, 0.28}, {0, 0.36}},      {256 * KB, {0.31, 0.38}, {0.40, 0.43}},
    {512 * KB, {0, 0.42}, {0, 0.45}},      {1 * MB, {0.26, 0.45}, {0.34, 0.50}}, {2 * MB, {0, 0.46}, {0, 0.50}},
    {4 * MB, {0.38, 0.53}, {0.31, 0.57}},  {8 * MB, {0.55, 0.66}, {0.43, 0.62}}, {32 * MB, {0.87, 0.86}, {0.75, 0.75}},
};

/*
 * Measured on H200: from the end of a kernel to the work of the next one, whose blocks stand ready by then; a flag to a peer; what a GPU
 * sends at most while all send to all (359 GB/s between two of them, 355 among four, whatever the form of the stores).
 */
#define LAUNCH_US    0.5
#define HOP_US       0.9
#define BYTES_PER_US 360e3

/* The last two are for bandwidth. */
static const uint64_t all_sizes[] = {16 * KB, 64 * KB, 128 * KB, 256 * KB, 512 * KB, 1 * MB,
                                     2 * MB,  4 * MB,  8 * MB,   32 * MB,  64 * MB,  256 * MB};

_Static_assert(sizeof(all_sizes) / sizeof(all_sizes[0]) <= FIGURES_MAX_SIZES, "sizes of a part");

const char *figures_part_name(uint32_t part)
{
    return part < PARTS ? names[part] : "?";
}

static bool find_part(const char *text, size_t length, uint32_t *part)
{
    for (*part = 0; *part < PARTS; ++*part)
        if (strlen(names[*part]) == length && strncmp(names[*part], text, length) == 0)
            return true;
    return false;
}

bool figures_parse_parts(const char *text, uint32_t *parts)
{
    uint32_t found = 0, part;
    for (;; text++) {
        size_t length = strcspn(text, ",");
        if (!find_part(text, length, &part))
            return false;
        found |= 1u << part;
        text += length;
        if (!*text)
            break;
    }
    *parts = found;
    return true;
}

uint32_t figures_sizes(uint32_t part, uint64_t low, uint64_t high, uint64_t *sizes)
{
    const uint64_t most = part == PART_NORM || part == PART_FP8 ? 32 * MB : 256 * MB;
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof(all_sizes) / sizeof(all_sizes[0]); i++)
        if (all_sizes[i] >= low && all_sizes[i] <= high && all_sizes[i] <= most)
            sizes[count++] = all_sizes[i];
    return count;
}

double figures_goal(uint32_t part, uint32_t ranks, uint64_t bytes)
{
    if ((ranks != 2 && ranks != 4) || (part != PART_DIRECT && part != PART_NORM))
        return 0;
    for (size_t i = 0; i < sizeof(goals) / sizeof(goals[0]); i++)
        if (goals[i].bytes == bytes)
            return (part == PART_NORM ? goals[i].norm : goals[i].plain)[ranks == 4];
    return 0;
}

double figures_bound(uint32_t ranks, uint64_t bytes, bool *wire)
{
    const double one_wire = (double)bytes * (ranks - 1) / BYTES_PER_US, two_wire = one_wire * 2 / ranks;
    const double one = LAUNCH_US + HOP_US + one_wire, two = LAUNCH_US + HOP_US + (two_wire > HOP_US ? two_wire : HOP_US);
    *wire = (one < two ? one_wire : two_wire) > (one < two ? one : two) / 2;
    return one < two ? one : two;
}

double figures_bus_bandwidth(uint64_t bytes, double us, uint32_t ranks)
{
    return us > 0 ? (double)bytes / us / 1e3 * 2 * (ranks - 1) / ranks : 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double figures_quantile(double *values, uint32_t count, double share)
{
    uint32_t at = (uint32_t)(share * count);
    qsort(values, count, sizeof(values[0]), ascending);
    return values[at < count ? at : count - 1];
}

double figures_mean(const double *values, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += values[i];
    return count ? sum / count : 0;
}
