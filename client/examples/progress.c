#include "progress.h"

#include <stdio.h>
#include <unistd.h>

void progress_start(struct progress *progress)
{
    *progress = (struct progress){.terminal = isatty(STDERR_FILENO) == 1};
}

void progress_show(struct progress *progress, const char *what, uint32_t done, uint32_t count)
{
    uint32_t quarter = count ? done * 4 / count : 0;
    bool news = what != progress->what;
    if (progress->terminal) {
        char bar[33];
        for (uint32_t i = 0; i < sizeof(bar) - 1; i++)
            bar[i] = count && i < done * (sizeof(bar) - 1) / count ? '#' : '.';
        bar[sizeof(bar) - 1] = 0;
        fprintf(stderr, "\r\033[K%-12s [%s] token %u of %u", what, bar, done, count);
        progress->drawn = true;
    } else if (news || quarter > progress->quarter) {
        fprintf(stderr, "%s: token %u of %u\n", what, done, count);
    }
    if (news || quarter > progress->quarter)
        progress->quarter = quarter;
    progress->what = what;
}

void progress_clear(struct progress *progress)
{
    if (progress->drawn)
        fprintf(stderr, "\r\033[K");
    progress->drawn = false;
}
