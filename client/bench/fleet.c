#include "fleet.h"
#include "pin.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Longer than a rank waits for another one that is gone: the deadline of the daemon that is measured, and some more. */
enum { STEP_US = 10000, GRACE_HOST_S = 40, GRACE_CUDA_S = 15 };

/* At the start of the shared memory. */
struct shared {
    _Atomic uint32_t ready;
    _Atomic uint32_t released;
    _Atomic uint32_t failed;
    _Atomic uint64_t agreements; /* how many rank 0 has published */
    _Atomic uint64_t value;      /* of the latest */
    _Atomic uint64_t taken;      /* by how many ranks in all */
};

struct fleet {
    struct shared *shared;
    size_t bytes, slot_bytes;
    uint32_t nranks;
    pid_t pids[BENCH_MAX_RANKS]; /* 0: reaped */
    char group[64];
    fleet_body body;
    uint32_t grace_s;
};

int fleet_complain(const struct fleet_rank *rank, const char *what, int code)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    const char *text = trtcoll_last_error(&error) == code && error.text[0] ? error.text : trtcoll_error_text(code);
    fprintf(stderr, "trtcoll-bench: rank %u: %s: %s: %s\n", rank->rank, what, trtcoll_error_name(code), text);
    return code;
}

void *fleet_slot(struct fleet *fleet, uint32_t rank)
{
    return (char *)fleet->shared + 4096 + rank * fleet->slot_bytes;
}

int fleet_attach(struct fleet_rank *rank)
{
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    options.socket_path = rank->settings->socket_path;
    options.name = "trtcoll-bench";
    if (rank->settings->cuda)
        options.device = (int32_t)rank->rank;
    int code = trtcoll_ctx_open(&options, &rank->ctx);
    return code == 0 ? 0 : fleet_complain(rank, "attach", code);
}

int fleet_enter(struct fleet_rank *rank, const char *name)
{
    int code = name ? trtcoll_group_join(rank->ctx, name, (int)rank->rank, 0, &rank->group)
                    : trtcoll_group_create(rank->ctx, rank->fleet->group, rank->nranks, rank->rank, 0, &rank->group);
    return code == 0 ? 0 : fleet_complain(rank, "group", code);
}

static int run_attached(struct fleet_rank *rank)
{
    int code = fleet_attach(rank);
    if (code == 0)
        code = fleet_enter(rank, NULL);
    return code == 0 ? rank->fleet->body(rank) : code;
}

static void become_rank(struct fleet *fleet, const struct settings *settings, uint32_t number, fleet_body start, const void *arg,
                        pid_t parent)
{
    struct fleet_rank rank = {
        .settings = settings, .fleet = fleet, .rank = number, .nranks = fleet->nranks, .slot = fleet_slot(fleet, number), .arg = arg};
    signal(SIGINT, SIG_IGN); /* the parent decides */
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    if (!settings->cuda) /* threads of CUDA and NCCL would have to share the processor */
        pin_rank(number);
    int code = start(&rank);
    trtcoll_ctx_close(rank.ctx);
    if (code != 0)
        atomic_store(&fleet->shared->failed, 1);
    _exit(code == 0 ? 0 : 1);
}

/* `start` runs in the processes, and the body within it. */
static struct fleet *launch(const struct settings *settings, uint32_t nranks, size_t slot_bytes, fleet_body start, fleet_body body,
                            const void *arg)
{
    static uint32_t number;
    pid_t parent = getpid();
    struct fleet *fleet = calloc(1, sizeof(*fleet));
    if (!fleet)
        return NULL;
    fleet->nranks = nranks;
    fleet->body = body;
    fleet->grace_s = settings->cuda ? GRACE_CUDA_S : GRACE_HOST_S;
    fleet->slot_bytes = (slot_bytes + 4095) / 4096 * 4096;
    fleet->bytes = 4096 + nranks * fleet->slot_bytes;
    fleet->shared = mmap(NULL, fleet->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fleet->shared == MAP_FAILED) {
        fprintf(stderr, "trtcoll-bench: out of memory\n");
        free(fleet);
        return NULL;
    }
    snprintf(fleet->group, sizeof(fleet->group), "bench-%d-%u", (int)parent, number++);
    fflush(NULL);
    for (uint32_t rank = 0; rank < nranks; rank++) {
        fleet->pids[rank] = fork();
        if (fleet->pids[rank] == 0)
            become_rank(fleet, settings, rank, start, arg, parent);
        if (fleet->pids[rank] < 0) {
            fprintf(stderr, "trtcoll-bench: fork: %s\n", strerror(errno));
            fleet->pids[rank] = 0;
            fleet_destroy(fleet);
            return NULL;
        }
    }
    return fleet;
}

struct fleet *fleet_start(const struct settings *settings, uint32_t nranks, size_t slot_bytes, fleet_body body, const void *arg)
{
    return launch(settings, nranks, slot_bytes, run_attached, body, arg);
}

struct fleet *fleet_start_bare(const struct settings *settings, uint32_t nranks, size_t slot_bytes, fleet_body body, const void *arg)
{
    return launch(settings, nranks, slot_bytes, body, body, arg);
}

/* Reaps what has ended. Returns how many are left. */
static uint32_t reap(struct fleet *fleet)
{
    uint32_t left = 0;
    for (uint32_t rank = 0; rank < fleet->nranks; rank++) {
        int status;
        if (fleet->pids[rank] == 0)
            continue;
        if (waitpid(fleet->pids[rank], &status, WNOHANG) != fleet->pids[rank]) {
            left++;
            continue;
        }
        fleet->pids[rank] = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            atomic_store(&fleet->shared->failed, 1);
        if (WIFSIGNALED(status))
            fprintf(stderr, "trtcoll-bench: rank %u: killed by signal %d\n", rank, WTERMSIG(status));
    }
    return left;
}

bool fleet_ended(struct fleet *fleet)
{
    return reap(fleet) < fleet->nranks;
}

int fleet_wait(struct fleet *fleet, uint32_t timeout_s)
{
    uint64_t deadline = loop_now_ns() + timeout_s * 1000000000ull;
    bool failed = false;
    while (reap(fleet) > 0) {
        /* What waits for a rank that has failed is not worth waiting for, once it had the time to say why. */
        if (!failed && atomic_load(&fleet->shared->failed)) {
            uint64_t earlier = loop_now_ns() + fleet->grace_s * 1000000000ull;
            deadline = earlier < deadline ? earlier : deadline;
            failed = true;
        }
        if (bench_interrupted())
            return EXIT_FAILED;
        if (loop_now_ns() > deadline) {
            fprintf(stderr, "trtcoll-bench: ranks still run after %u s\n", failed ? fleet->grace_s : timeout_s);
            return EXIT_FAILED;
        }
        usleep(STEP_US);
    }
    return atomic_load(&fleet->shared->failed) ? EXIT_FAILED : 0;
}

void fleet_destroy(struct fleet *fleet)
{
    if (!fleet)
        return;
    for (uint32_t rank = 0; rank < fleet->nranks; rank++)
        if (fleet->pids[rank] > 0) {
            kill(fleet->pids[rank], SIGKILL);
            waitpid(fleet->pids[rank], NULL, 0);
        }
    munmap(fleet->shared, fleet->bytes);
    free(fleet);
}

bool fleet_await_ready(struct fleet *fleet, uint32_t timeout_s)
{
    uint64_t deadline = loop_now_ns() + timeout_s * 1000000000ull;
    while (atomic_load(&fleet->shared->ready) < fleet->nranks) {
        if (reap(fleet) < fleet->nranks || bench_interrupted() || loop_now_ns() > deadline)
            return false;
        usleep(STEP_US);
    }
    return true;
}

void fleet_release(struct fleet *fleet)
{
    atomic_store(&fleet->shared->released, 1);
}

void fleet_ready(struct fleet_rank *rank)
{
    atomic_fetch_add(&rank->fleet->shared->ready, 1);
    while (!atomic_load(&rank->fleet->shared->released))
        usleep(STEP_US);
}

void fleet_stay(void)
{
    for (;;)
        pause();
}

/* Rank 0 publishes the next value when everybody has taken the previous one. */
int fleet_agree(struct fleet_rank *rank, uint64_t *value)
{
    struct shared *shared = rank->fleet->shared;
    uint64_t taken = atomic_load(&shared->taken), round = taken / rank->nranks;
    if (rank->rank == 0) {
        atomic_store(&shared->value, *value);
        atomic_store(&shared->agreements, round + 1);
    }
    while (atomic_load(&shared->agreements) <= round) {
        if (atomic_load(&shared->failed))
            return TRTCOLL_EABORTED;
        sched_yield();
    }
    *value = atomic_load(&shared->value);
    atomic_fetch_add(&shared->taken, 1);
    while (atomic_load(&shared->taken) < (round + 1) * rank->nranks) {
        if (atomic_load(&shared->failed))
            return TRTCOLL_EABORTED;
        sched_yield();
    }
    return 0;
}
