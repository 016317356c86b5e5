#include "cases_hostile.h"

static void innocent_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "innocent");
    for (uint32_t round = 1;; round++) {
        proc_sum(group, TRTCOLL_LANE_DIRECT, 500);
        proc_sum(group, TRTCOLL_LANE_SERVED, 500);
        /* The last round is the same for both: rank 0 decides, rank 1 hears of it through the group. */
        int32_t last = me->rank == 0 && atomic_load(&me->shared->parent.step) > 0, all = 0;
        CHECK_OK(trtcoll_all_reduce(group, &last, &all, 1, TRTCOLL_INT32, TRTCOLL_MAX));
        proc_reach(me, round);
        if (all)
            break;
        proc_nap();
    }
    trtcoll_ctx_close(ctx);
}

void hostile_run(const struct proc_settings *settings, const struct attack *attacks, size_t count)
{
    struct proc_daemon *daemon = proc_daemon_start(settings);
    struct proc_run *innocents = proc_run_start(daemon, 2, innocent_body, NULL);
    proc_run_await_all(innocents, 1);
    for (size_t i = 0; i < count; i++) {
        print_message("  %s\n", attacks[i].name);
        proc_run_all(daemon, 1, attacks[i].body, NULL, 40000);
        assert_true(proc_daemon_alive(daemon));
        for (int rank = 0; rank < 2; rank++)
            proc_run_await(innocents, rank, atomic_load(&innocents->shared->ranks[rank].step) + 2);
    }
    proc_run_reach(innocents, 1);
    proc_run_wait(innocents, 30000);
    proc_daemon_finish(daemon);
}
