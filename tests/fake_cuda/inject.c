#include "inject.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINES = 256 };

struct line {
    char function[64];
    int error;
    int pid; /* 0: all */
    int device;
    int skip;
    bool hang;
    bool once;
    bool spent;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct line lines[MAX_LINES];
static unsigned line_count;
static char path[512];
static bool looked;
static struct timespec seen_time;
static off_t seen_bytes;

static void parse(unsigned index, char *text)
{
    struct line *line = &lines[index];
    char *save = NULL, *word = strtok_r(text, " \t\n", &save);
    *line = (struct line){.device = -1};
    if (!word || *word == '#') {
        line->spent = true;
        return;
    }
    snprintf(line->function, sizeof(line->function), "%s", word);
    word = strtok_r(NULL, " \t\n", &save);
    line->hang = word && !strcmp(word, "hang");
    line->error = line->hang ? -1 : word ? atoi(word) : 0;
    while ((word = strtok_r(NULL, " \t\n", &save))) {
        if (!strncmp(word, "pid=", 4))
            line->pid = atoi(word + 4);
        else if (!strncmp(word, "skip=", 5))
            line->skip = atoi(word + 5);
        else if (!strncmp(word, "device=", 7))
            line->device = atoi(word + 7);
        else if (!strcmp(word, "once"))
            line->once = true;
        else
            fake_complain("%s:%u: cannot read '%s'", path, index + 1, word);
    }
    line->spent = !line->error;
}

/* Lines seen before stay as they are, spent or not. */
static void refresh(void)
{
    struct stat status;
    char text[256];
    FILE *file;
    if (!looked) {
        const char *name = getenv("TRTCOLL_FAKE_FAULTS");
        looked = true;
        snprintf(path, sizeof(path), "%s", name ? name : "");
    }
    if (!*path || stat(path, &status))
        return;
    if (status.st_size == seen_bytes && status.st_mtim.tv_sec == seen_time.tv_sec && status.st_mtim.tv_nsec == seen_time.tv_nsec)
        return;
    if (status.st_size < seen_bytes)
        line_count = 0;
    seen_time = status.st_mtim;
    seen_bytes = status.st_size;
    file = fopen(path, "re");
    if (!file)
        return;
    for (unsigned i = 0; i < MAX_LINES && fgets(text, sizeof(text), file); i++) {
        if (!strchr(text, '\n')) { /* still being written */
            seen_bytes = -1;
            break;
        }
        if (i < line_count)
            continue;
        parse(i, text);
        line_count = i + 1;
    }
    fclose(file);
}

static bool claim(unsigned index)
{
    char mark[sizeof(path) + 16];
    int fd;
    if (!lines[index].once)
        return true;
    snprintf(mark, sizeof(mark), "%s.%u", path, index + 1);
    fd = open(mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* For ever: only the end of the process ends it. */
static _Noreturn void hang(void)
{
    for (;;)
        pause();
}

static int find(const char *function, int device)
{
    int error = 0;
    bool hangs = false;
    pthread_mutex_lock(&lock);
    refresh();
    for (unsigned i = 0; i < line_count && !error; i++) {
        struct line *line = &lines[i];
        if (line->spent || strcmp(line->function, function) != 0 || line->device != device || (line->pid && line->pid != getpid()))
            continue;
        if (line->skip > 0) {
            line->skip--;
            break;
        }
        line->spent = true;
        if (claim(i)) {
            error = line->error;
            hangs = line->hang;
        }
    }
    pthread_mutex_unlock(&lock);
    if (hangs)
        hang();
    return error;
}

int trtcoll_fake_injected(const char *function)
{
    return find(function, -1);
}

int fake_injected_fault(unsigned machine_index)
{
    return find("fault", (int)machine_index);
}
