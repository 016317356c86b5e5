#include "processes.h"

#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_MS = 100, PATIENCE_S = 600, MOURNING_S = 60, LEAVE_S = 30 };

const char *const lane_names[LANES] = {[LANE_DIRECT] = "direct", [LANE_SERVED] = "served"};

void processes_start(struct processes *processes, const struct task *task, struct shared *shared)
{
    pid_t parent = getpid();
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &processes->before);
    fflush(NULL);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        processes->pids[rank] = fork();
        if (processes->pids[rank] == 0) {
            sigprocmask(SIG_SETMASK, &processes->before, NULL);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(getppid() == parent ? rank_run(task, rank, shared) : EXIT_TROUBLE);
        }
        /* The ranks that do run will hear of the missing one through the deadline of joining. */
        if (processes->pids[rank] < 0)
            fprintf(stderr, "tp_decode: fork: %s\n", strerror(errno));
    }
}

/* Reaps what has ended and returns how many are left. */
static uint32_t reap(struct processes *processes, int *status)
{
    uint32_t left = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        pid_t pid = processes->pids[rank];
        int how = 0;
        if (pid > 0 && waitpid(pid, &how, WNOHANG) == 0) {
            left++;
            continue;
        }
        if (pid != 0 && (pid < 0 || !WIFEXITED(how) || WEXITSTATUS(how) != 0))
            *status = EXIT_TROUBLE;
        if (pid > 0 && WIFSIGNALED(how))
            fprintf(stderr, "tp_decode: rank %u: killed by signal %d\n", rank, WTERMSIG(how));
        processes->pids[rank] = 0;
    }
    return left;
}

static void kill_all(const struct processes *processes)
{
    for (uint32_t rank = 0; rank < RANKS; rank++)
        if (processes->pids[rank] > 0)
            kill(processes->pids[rank], SIGKILL);
}

/* Until a child ends, or a moment has passed. */
static void pause_for_child(void)
{
    struct timespec moment = {0, PROGRESS_MS * 1000000};
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigtimedwait(&child, NULL, &moment);
}

int processes_decode(struct processes *processes, const struct task *task, struct shared *shared, struct progress *progress)
{
    int status = EXIT_SAME;
    time_t deadline = time(NULL) + PATIENCE_S;
    while (reap(processes, &status) > 0 && (status != EXIT_SAME || atomic_load(&shared->decoded) < RANKS)) {
        struct rank_report *first = &shared->ranks[0];
        uint32_t done = atomic_load(&first->done);
        if (done > 0)
            progress_show(progress, lane_names[atomic_load(&first->lane)], done, task->count);
        if (status != EXIT_SAME) { /* the others will fail too, soon */
            atomic_store(&shared->leave, 1);
            deadline = deadline < time(NULL) + MOURNING_S ? deadline : time(NULL) + MOURNING_S;
        }
        if (time(NULL) > deadline)
            kill_all(processes);
        pause_for_child();
    }
    if (status == EXIT_SAME)
        progress_show(progress, lane_names[atomic_load(&shared->ranks[0].lane)], task->count, task->count);
    progress_clear(progress);
    return status;
}

int processes_leave(struct processes *processes, struct shared *shared)
{
    int status = EXIT_SAME;
    time_t deadline = time(NULL) + LEAVE_S;
    atomic_store(&shared->leave, 1);
    while (reap(processes, &status) > 0) {
        if (time(NULL) > deadline)
            kill_all(processes);
        pause_for_child();
    }
    sigprocmask(SIG_SETMASK, &processes->before, NULL);
    return status;
}

int processes_command(const char *command)
{
    int how = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &how, 0) == pid && WIFEXITED(how) ? WEXITSTATUS(how) : 127;
}
