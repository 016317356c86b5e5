/*
 * A group of ranks as threads of this process over real device memory: group_run lets every rank execute one operation at the same time
 * and comes back when all have. The threads live as long as the group.
 */
#ifndef TESTS_KERNELS_FIXTURE_H
#define TESTS_KERNELS_FIXTURE_H

#include "cmocka_all.h"

#include <tck/comm.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct group;

struct group_rank {
    struct group *group;
    uint32_t rank;
    pthread_t thread;
    struct tck_memory memory;
    struct tck_comm *comm;
    _Atomic uint64_t missing;
    /* one round */
    const struct tck_run *run; /* NULL: sit this round out */
    uint64_t delay_ns;         /* before the run */
    int code;
    struct tck_fault fault;
    uint64_t began_ns, ended_ns;
};

struct group {
    uint32_t n;
    bool quit;
    int (*body)(struct group_rank *rank); /* instead of one run: as many as the test likes, unsynchronized by the fixture */
    _Atomic uint64_t abort_word, deadline_ns;
    pthread_barrier_t start, end;
    struct group_rank ranks[TCK_HOST_MAX_RANKS];
};

static inline void group_sleep(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    nanosleep(&time, NULL);
}

static inline void *group_thread(void *arg)
{
    struct group_rank *self = arg;
    for (;;) {
        pthread_barrier_wait(&self->group->start);
        if (self->group->quit)
            return NULL;
        self->fault = (struct tck_fault){.rank = TCW_NOBODY};
        self->code = 0;
        if (self->delay_ns)
            group_sleep(self->delay_ns);
        self->began_ns = tcw_now_ns();
        if (self->group->body)
            self->code = self->group->body(self);
        else if (self->run)
            self->code = tck_comm_run(self->comm, self->run, &self->fault);
        self->ended_ns = tcw_now_ns();
        pthread_barrier_wait(&self->group->end);
    }
}

/* `bytes` of workspace per rank: small ones make small messages take many steps. */
static inline struct group *group_open(uint32_t n, uint64_t bytes, int (*poll)(void *), void *poll_arg)
{
    struct group *group = calloc(1, sizeof(*group));
    void *workspaces[TCK_HOST_MAX_RANKS];
    assert_non_null(group);
    group->n = n;
    atomic_store(&group->deadline_ns, UINT64_C(30000000000));
    pthread_barrier_init(&group->start, NULL, n + 1);
    pthread_barrier_init(&group->end, NULL, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(tck_memory_create(NULL, "test-workspace", bytes, &group->ranks[i].memory), 0);
        workspaces[i] = group->ranks[i].memory.base;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct group_rank *rank = &group->ranks[i];
        struct tck_comm_params params = {
            .rank = i,
            .nranks = n,
            .workspaces = workspaces,
            .workspace_bytes = bytes,
            .abort_word = &group->abort_word,
            .deadline_ns = &group->deadline_ns,
            .missing_ranks = &rank->missing,
            .spin_us = 20,
            .poll = poll,
            .poll_arg = poll_arg,
        };
        rank->group = group;
        rank->rank = i;
        assert_int_equal(tck_comm_create(&params, &rank->comm), 0);
        assert_int_equal(pthread_create(&rank->thread, NULL, group_thread, rank), 0);
    }
    return group;
}

static inline void group_close(struct group *group)
{
    group->quit = true;
    pthread_barrier_wait(&group->start);
    for (uint32_t i = 0; i < group->n; i++) {
        pthread_join(group->ranks[i].thread, NULL);
        tck_comm_destroy(group->ranks[i].comm);
    }
    for (uint32_t i = 0; i < group->n; i++)
        tck_memory_release(&group->ranks[i].memory);
    pthread_barrier_destroy(&group->start);
    pthread_barrier_destroy(&group->end);
    free(group);
}

/* Between these two the ranks run. */
static inline void group_start(struct group *group)
{
    pthread_barrier_wait(&group->start);
}
static inline void group_finish(struct group *group)
{
    pthread_barrier_wait(&group->end);
}

static inline void group_expect_success(const struct group *group)
{
    for (uint32_t i = 0; i < group->n; i++)
        if (group->ranks[i].code)
            fail_msg("rank %u of %u: %s about rank %d (%s %llu/%llu)", i, group->n, tcw_error_name(group->ranks[i].code),
                     (int)group->ranks[i].fault.rank, group->ranks[i].fault.field ? group->ranks[i].fault.field : "-",
                     (unsigned long long)group->ranks[i].fault.mine, (unsigned long long)group->ranks[i].fault.theirs);
}

/* runs[i] is rank i's; all must succeed. */
static inline void group_run(struct group *group, const struct tck_run *runs)
{
    for (uint32_t i = 0; i < group->n; i++)
        group->ranks[i].run = &runs[i];
    group_start(group);
    group_finish(group);
    group_expect_success(group);
}

/* Every rank runs body at the same time; all must return 0. */
static inline void group_run_body(struct group *group, int (*body)(struct group_rank *rank))
{
    group->body = body;
    group_start(group);
    group_finish(group);
    group->body = NULL;
    group_expect_success(group);
}

/* A reproducible stream of numbers. */
struct dice {
    uint64_t state;
};

static inline uint64_t dice_roll(struct dice *dice)
{
    uint64_t z = (dice->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint64_t dice_below(struct dice *dice, uint64_t limit)
{
    return dice_roll(dice) % limit;
}

#endif
