/*
 * The smallest useful program: every process brings a vector and gets the sum.
 *
 *     trtcolld --config laptop.json &
 *     for rank in 0 1 2 3; do hello_all_reduce $rank 4 & done; wait
 */
#include <trtcoll.h>

#include <stdio.h>
#include <stdlib.h>

static void check(int code, const char *what)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    if (code == 0)
        return;
    trtcoll_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, trtcoll_error_name(code), error.text);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: hello_all_reduce RANK SIZE\n");
        return 2;
    }
    uint32_t rank = (uint32_t)strtoul(argv[1], NULL, 10), size = (uint32_t)strtoul(argv[2], NULL, 10);
    struct trtcoll_ctx *ctx;
    struct trtcoll_group *group;
    check(trtcoll_ctx_open(NULL, &ctx), "attach");
    check(trtcoll_group_create(ctx, "hello", size, rank, 0, &group), "group");

    float in[4] = {(float)rank, 1, 0.5f, -(float)rank}, out[4];
    check(trtcoll_all_reduce(group, in, out, 4, TRTCOLL_FP32, TRTCOLL_SUM), "all-reduce");
    printf("rank %u of %u: sum is %g %g %g %g\n", rank, size, out[0], out[1], out[2], out[3]);

    trtcoll_ctx_close(ctx);
    return 0;
}
