/*
 * trtcoll-bench: settings and results. Owner: main; plain data, one thread.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "loop.h"

#include <trtcoll.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { BENCH_MAX_RANKS = 16, BENCH_MAX_ROUNDS = 25 };

enum { EXIT_GOOD = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_DAEMON = 3 };

/* Who is measured; also the order within a round. */
enum { PEER_DIRECT, PEER_SERVED, PEER_MPI, PEERS };

struct settings {
    uint32_t ranks;
    bool ranks_given;
    uint64_t low, high; /* bytes */
    uint32_t rounds;
    uint64_t budget_ns; /* per size, peer and round */
    bool bf16;
    bool peers[PEERS];
    bool json;
    double idle_s;    /* 0: not measured */
    double soak_s;    /* 0: no soak, but the table */
    double soak_rate; /* runs per second and rank */
    uint64_t soak_bytes;
    const char *socket_path; /* NULL: own daemon */
    const char *daemon_path; /* NULL: looked for */
    bool cuda;               /* GPUs instead of host devices; what follows is about them */
    bool configured_group;   /* own daemon: its configuration has the group BENCH_GROUP, and it prepares a communicator for that */
    uint32_t parts;          /* a bit for each of figures.h */
    uint32_t replays;
    const char *save_path;   /* file for JSON, beside the table; NULL: none */
    const char *tune_path;   /* instead of measuring: file for tables of strategies */
    const char *tuning_path; /* own daemon: its choosing.tuning; NULL: the built-in tables */
    const char *command;     /* how this program was called */
};

#define BENCH_GROUP "bench"

struct machine {
    char cpu[128], kernel[128], library[64];
    uint32_t processors; /* this process may use */
};

/* submit to completion seen, on a group of one, served */
struct ring_result {
    bool measured;
    uint64_t samples;
    double min_ns, median_ns, p99_ns;
};

struct sweep_result {
    uint32_t count;
    uint64_t sizes[LOOP_MAX_CASES];
    double ns[PEERS][LOOP_MAX_CASES]; /* median over rounds; 0: not measured */
    char mpi[128];                    /* the library's name, or why there is none */
};

struct idle_result {
    bool measured;
    double seconds, control_percent, executor_percent; /* of one core */
    uint32_t executors, clients;
};

struct soak_result {
    bool measured;
    uint64_t submitted, completed, lost, failed, wrong; /* all ranks */
    double seconds, rate;                               /* achieved runs per second and rank */
    double median_ns, p99_ns, max_ns;                   /* submit to completion */
};

struct results {
    struct machine machine;
    struct ring_result ring;
    struct sweep_result sweep;
    struct idle_result idle;
    struct soak_result soak[2]; /* direct, served */
};

/* Each measures one thing against the daemon behind `socket_path`: 0, or an exit code after a message on stderr. */
int ring_measure(const struct settings *settings, struct ring_result *result);
int sweep_measure(const struct settings *settings, struct sweep_result *result);
int idle_measure(const struct settings *settings, pid_t daemon, struct idle_result *result);
int soak_measure(const struct settings *settings, trtcoll_lane lane, struct soak_result *result);

/* One sweep of the MPI peer. `ns` has an entry per size. *reason: why there is nothing, when it returns 1. */
int mpi_sweep(const struct settings *settings, const struct sweep_result *cases, double *ns, char *library, size_t library_size,
              const char **reason);

/* Whether SIGINT, SIGTERM or SIGHUP has come: everything ends early then, and in order. */
bool bench_interrupted(void);

void machine_describe(struct machine *machine);
/* The directory of this program, without a trailing slash; "" if unknown. */
void machine_own_directory(char *directory, size_t size);

/* Everything about GPUs: measures, reports, and returns the exit code. EXIT_USAGE after a message where CUDA is not built in. */
int cuda_measure(struct settings *settings);

void report_text(const struct settings *settings, const struct results *results);
void report_json(const struct settings *settings, const struct results *results);

#endif
