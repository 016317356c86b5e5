/*
 * The other side of the comparison: mpirun starts trtcoll-bench-mpi, whose lines are read from a pipe.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 600000, MAX_OUTPUT = 65536, MAX_DEPTH = 16 };

/* `scratch`: for the files that Open MPI makes, and does not always take away. */
static void become_mpirun(const struct settings *settings, const char *peer, const char *scratch, int output, pid_t parent)
{
    char ranks[16], low[24], high[24], budget[24];
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    snprintf(ranks, sizeof(ranks), "%u", settings->ranks);
    snprintf(low, sizeof(low), "%llu", (unsigned long long)settings->low);
    snprintf(high, sizeof(high), "%llu", (unsigned long long)settings->high);
    snprintf(budget, sizeof(budget), "%llu", (unsigned long long)settings->budget_ns);
    setpgid(0, 0); /* an interrupt at the terminal is ours to handle */
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
        _exit(127);
    /* The peer binds itself exactly as our ranks do. More ranks than processors are fine here, and so is root. */
    setenv("TMPDIR", scratch, 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    execlp("mpirun", "mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks, peer, low, high, budget, (char *)NULL);
    _exit(127);
}

/* Everything the child writes until it closes its output, or until the patience is over. */
static bool read_all(int fd, char *text, size_t size)
{
    uint64_t deadline = loop_now_ns() + PATIENCE_MS * 1000000ull;
    size_t length = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        uint64_t now = loop_now_ns();
        ssize_t got;
        if (now >= deadline || length + 1 == size || bench_interrupted())
            return false;
        if (poll(&ready, 1, (int)((deadline - now) / 1000000) + 1) <= 0)
            continue;
        got = read(fd, text + length, size - 1 - length);
        if (got <= 0) {
            text[length] = 0;
            return got == 0;
        }
        length += (size_t)got;
    }
}

/* Every size must have been reported. */
static bool parse(char *text, const struct sweep_result *cases, double *ns, char *library, size_t library_size)
{
    uint32_t found = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        unsigned long long bytes;
        double value;
        if (strncmp(line, "library ", 8) == 0)
            snprintf(library, library_size, "%s", line + 8);
        if (sscanf(line, "case %llu %lf", &bytes, &value) != 2)
            continue;
        for (uint32_t i = 0; i < cases->count; i++)
            if (cases->sizes[i] == bytes) {
                ns[i] = value;
                found++;
            }
    }
    return found == cases->count;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

/* Runs the peer to its end. True: it was content, and `text` is what it said. */
static bool run_peer(const struct settings *settings, const char *peer, const char *scratch, char *text, size_t size, int *status)
{
    int ends[2];
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        become_mpirun(settings, peer, scratch, ends[1], parent);
    close(ends[1]);
    bool complete = child > 0 && read_all(ends[0], text, size);
    close(ends[0]);
    if (child < 0)
        return false;
    if (!complete)
        kill(child, SIGTERM); /* mpirun ends its ranks */
    while (waitpid(child, status, 0) < 0 && errno == EINTR)
        ;
    return complete && WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
}

int mpi_sweep(const struct settings *settings, const struct sweep_result *cases, double *ns, char *library, size_t library_size,
              const char **reason)
{
    static char text[MAX_OUTPUT];
    const char *base = getenv("TMPDIR");
    char directory[256], peer[300], scratch[128];
    int status = 0;
    machine_own_directory(directory, sizeof(directory));
    snprintf(peer, sizeof(peer), "%s/trtcoll-bench-mpi", directory);
    *reason = "not built";
    if (access(peer, X_OK) != 0)
        return 1;
    *reason = "failed";
    snprintf(scratch, sizeof(scratch), "%s/trtcoll-mpi.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(scratch))
        return 1;
    bool good = run_peer(settings, peer, scratch, text, sizeof(text), &status);
    nftw(scratch, remove_entry, MAX_DEPTH, FTW_DEPTH | FTW_PHYS);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        *reason = "no mpirun";
    return good && parse(text, cases, ns, library, library_size) ? 0 : 1;
}
