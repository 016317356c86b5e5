/* The smallest useful program: every process brings a vector and gets the sum of all. */
#include <stdio.h>
#include <stdlib.h>
#include <trtcoll.h>

static void check(int code)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    if (code && trtcoll_last_error(&error)) {
        fprintf(stderr, "%s: %s\n", trtcoll_error_name(code), error.text);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    unsigned rank = argc > 1 ? atoi(argv[1]) : 0, ranks = argc > 2 ? atoi(argv[2]) : 1;
    float x[4] = {1, 10, 100, 1000 + rank};
    struct trtcoll_ctx *ctx;
    struct trtcoll_group *group;

    check(trtcoll_ctx_open(NULL, &ctx));
    check(trtcoll_group_create(ctx, "hello", ranks, rank, 10000, &group)); /* returns when all ranks are there */
    check(trtcoll_all_reduce(group, x, x, 4, TRTCOLL_FP32, TRTCOLL_SUM));
    printf("rank %u: %g %g %g %g\n", rank, x[0], x[1], x[2], x[3]);
    trtcoll_ctx_close(ctx);
}
