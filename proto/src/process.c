/* Which process was meant: a pid alone is reused sooner or later. */
#include <tcw/stats_layout.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FIELD_STATE = 3, FIELD_START = 22 };

uint64_t tcw_process_start_ticks(uint64_t pid)
{
    char path[64], text[1024];
    if (!pid || pid > INT32_MAX)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) /* perhaps /proc hides it from us */
        return kill((pid_t)pid, 0) < 0 && errno == EPERM ? UINT64_MAX : 0;
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    /* The second field is a name in parentheses, which may itself hold blanks and parentheses. */
    char *at = strrchr(text, ')');
    for (int field = FIELD_STATE; at && field <= FIELD_START; ++field) {
        at = strchr(at + 1, ' ');
        if (at && field == FIELD_STATE && (at[1] == 'Z' || at[1] == 'X'))
            return 0;
    }
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

uint64_t tcw_process_pid_namespace(void)
{
    struct stat status;
    return stat("/proc/self/ns/pid", &status) < 0 ? 0 : (uint64_t)status.st_ino;
}
