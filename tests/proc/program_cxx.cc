// The public interface from C++: two ranks as two threads of one process, initializer macros, one-call forms.
#include <trtcoll.h>

#include <cstdio>
#include <thread>

static int run_rank(uint32_t rank, float *sum)
{
    trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    trtcoll_ctx *ctx = nullptr;
    trtcoll_group *group = nullptr;
    options.name = "c++";
    int code = trtcoll_ctx_open(&options, &ctx);
    if (!code)
        code = trtcoll_group_create(ctx, "cxx", 2, rank, 10000, &group);
    const float mine = static_cast<float>(rank + 1);
    if (!code)
        code = trtcoll_all_reduce(group, &mine, sum, 1, TRTCOLL_FP32, TRTCOLL_SUM);
    trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    trtcoll_plan *plan = nullptr;
    desc.dtype = TRTCOLL_FP32;
    if (!code)
        code = trtcoll_plan_create_all_reduce(group, &desc, &plan);
    trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = 1;
    args.in = &mine;
    args.out = sum;
    if (!code)
        code = trtcoll_plan_run(plan, &args, nullptr, nullptr);
    if (code) {
        trtcoll_error error = TRTCOLL_ERROR_INIT;
        trtcoll_last_error(&error);
        std::fprintf(stderr, "rank %u: %s: %s\n", rank, trtcoll_error_name(code), error.text);
    }
    trtcoll_ctx_close(ctx);
    return code;
}

int main()
{
    float sums[2] = {0, 0};
    int codes[2] = {0, 0};
    std::thread other([&] { codes[1] = run_rank(1, &sums[1]); });
    codes[0] = run_rank(0, &sums[0]);
    other.join();
    if (codes[0] || codes[1] || sums[0] != sums[1])
        return 1;
    std::printf("the sum is %g\n", static_cast<double>(sums[0]));
    return 0;
}
