/*
 * trtcoll-bench-mpi: the all-reduce of trtcoll-bench, done by MPI. Started by trtcoll-bench through mpirun; not for use by hand.
 *
 *     trtcoll-bench-mpi LOW HIGH BUDGET_NS
 *
 * Prints "library TEXT", and for every size "case BYTES NS". Always fp32: MPI 3 knows no bf16.
 */
#include "loop.h"
#include "pin.h"

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct subject {
    void *in, *out;
    int count;
};

static int run(void *arg)
{
    struct subject *subject = arg;
    return MPI_Allreduce(subject->in, subject->out, subject->count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static int agree(void *arg, uint64_t *value)
{
    (void)arg;
    return MPI_Bcast(value, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
}

static int measure(uint64_t bytes, uint64_t budget_ns, int rank, int nranks)
{
    struct subject subject = {.count = (int)(bytes / sizeof(float))};
    struct loop_subject loop = {.run = run, .agree = agree, .arg = &subject};
    uint64_t room = bytes < 4096 ? 4096 : bytes;
    double mine = 0, largest = 0;
    int code = 1;
    if (posix_memalign(&subject.in, 4096, room) == 0 && posix_memalign(&subject.out, 4096, room) == 0) {
        loop_fill(subject.in, bytes, 0, (uint32_t)rank);
        memset(subject.out, 0, bytes);
        code = loop_measure(&loop, budget_ns, &mine);
    }
    if (code == 0)
        code = loop_verify(subject.out, bytes, 0, (uint32_t)nranks);
    if (code == 0)
        code = MPI_Reduce(&mine, &largest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    free(subject.in);
    free(subject.out);
    if (code != 0)
        fprintf(stderr, "trtcoll-bench-mpi: %llu bytes: failed\n", (unsigned long long)bytes);
    else if (rank == 0)
        printf("case %llu %.1f\n", (unsigned long long)bytes, largest);
    return code;
}

int main(int argc, char **argv)
{
    int rank, nranks, length;
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    uint64_t sizes[LOOP_MAX_CASES];
    if (argc != 4) {
        fprintf(stderr, "usage: trtcoll-bench-mpi LOW HIGH BUDGET_NS (started by trtcoll-bench)\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* when mpirun is killed */
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &nranks);
    MPI_Get_library_version(library, &length);
    library[strcspn(library, ",\n")] = 0;
    pin_rank((uint32_t)rank);
    if (rank == 0)
        printf("library %s\n", library);
    uint32_t count = loop_sizes(strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10), sizes);
    for (uint32_t i = 0; i < count; i++)
        if (measure(sizes[i], strtoull(argv[3], NULL, 10), rank, nranks) != 0)
            MPI_Abort(MPI_COMM_WORLD, 1);
    fflush(stdout);
    MPI_Finalize();
    return 0;
}
