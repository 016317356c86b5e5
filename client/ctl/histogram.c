#include "histogram.h"

#include <string.h>

uint64_t tcc_histogram_total(const struct tcc_histogram *histogram)
{
    uint64_t total = 0;

    for (size_t i = 0; i < histogram->buckets; i++)
        total += histogram->counts[i];
    return total;
}

uint64_t tcc_histogram_quantile(const struct tcc_histogram *histogram, unsigned per_mille)
{
    uint64_t total = tcc_histogram_total(histogram);
    uint64_t seen = 0;
    uint64_t wanted;

    if (!total)
        return 0;
    /* ceil(total * per_mille / 1000) without overflow, at least the first run */
    wanted = total / 1000 * per_mille + (total % 1000 * per_mille + 999) / 1000;
    if (!wanted)
        wanted = 1;
    for (size_t i = 0; i < histogram->buckets; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted)
            return histogram->limits[i];
    }
    return UINT64_MAX;
}

bool tcc_histogram_span(const struct tcc_histogram *histogram, size_t *first, size_t *last)
{
    bool found = false;

    for (size_t i = 0; i < histogram->buckets; i++) {
        if (!histogram->counts[i])
            continue;
        if (!found)
            *first = i;
        *last = i;
        found = true;
    }
    return found;
}

void tcc_histogram_spark(const struct tcc_histogram *histogram, size_t first, size_t last, bool utf8, char *text)
{
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const ascii[] = {" ", ".", ":", "-", "=", "+", "*", "#", "@"};
    uint64_t largest = 1;

    for (size_t i = first; i <= last; i++) {
        if (histogram->counts[i] > largest)
            largest = histogram->counts[i];
    }
    for (size_t i = first; i <= last; i++) {
        uint64_t count = histogram->counts[i];
        unsigned height = count ? 1 + (unsigned)((double)count / (double)largest * 7) : 0;
        const char *block = utf8 ? blocks[height] : ascii[height];

        text = stpcpy(text, block);
    }
    *text = 0;
}
