/* The served lane against an executor that the test controls: staging, chains of runs, events, slots, breaks. */
#include "client_fixture.h"

enum { COUNT = 1000 };

static void fill(float *values, float first)
{
    for (int i = 0; i < COUNT; i++)
        values[i] = first + (float)i;
}

static void detach(struct fake_client *client)
{
    trtcoll_ctx_close(client->ctx);
}

static uint64_t staged_runs(struct fake_client *client)
{
    struct trtcoll_plan_info info = {.size = sizeof(info)};

    assert_int_equal(trtcoll_plan_info(client->plan, &info), 0);
    return info.staged_runs;
}

static uint32_t in_flight(struct fake_client *client)
{
    struct trtcoll_group_info info = {.size = sizeof(info)};

    assert_int_equal(trtcoll_group_status(client->group, &info), 0);
    return info.in_flight;
}

/* Ordinary memory is copied there and back; the caller's memory beyond the run stays as it is. */
static void test_staged(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_SERVED, COUNT);
    float in[COUNT], out[COUNT];

    fill(in, 5);
    fill(out, -5000);
    assert_int_equal(fake_run(&client, in, out, 10, NULL), 0);
    assert_memory_equal(in, out, 10 * sizeof(float));
    assert_true(out[10] == -4990);
    assert_int_equal(staged_runs(&client), 1);
    detach(&client);
}

static void test_zero_copy(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_SERVED, COUNT);
    void *memory;
    float *in, *out;

    assert_int_equal(trtcoll_alloc(client.ctx, 2 * COUNT * sizeof(float), &memory), 0);
    in = memory;
    out = in + COUNT;
    fill(in, 7);
    assert_int_equal(fake_run(&client, in, out, COUNT, NULL), 0);
    assert_memory_equal(in, out, COUNT * sizeof(float));
    assert_int_equal(staged_runs(&client), 0);
    /* One buffer of two in unknown memory. */
    float other[COUNT];
    assert_int_equal(fake_run(&client, in, other, COUNT, NULL), 0);
    assert_memory_equal(in, other, sizeof(other));
    assert_int_equal(staged_runs(&client), 1);
    assert_int_equal(trtcoll_free(client.ctx, memory), 0);
    detach(&client);
}

static void test_registered(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_SERVED, COUNT);
    uint64_t bytes = 16384;
    int fd = tcw_memfd_create("mine", bytes, 0), plain = memfd_create("plain", MFD_CLOEXEC);
    float *memory = fake_map(fd, bytes);

    assert_int_equal(ftruncate(plain, 16384), 0);
    assert_int_equal(trtcoll_register(client.ctx, memory, bytes, plain), TRTCOLL_EINVAL);
    assert_non_null(strstr(fake_text(), "sealed"));
    assert_int_equal(trtcoll_register(client.ctx, memory, bytes * 2, fd), TRTCOLL_EINVAL);
    assert_int_equal(trtcoll_register(client.ctx, memory, bytes, fd), 0);
    assert_int_equal(trtcoll_register(client.ctx, memory, bytes, fd), TRTCOLL_EEXIST);
    assert_int_equal(trtcoll_register(client.ctx, (char *)memory + 8192, 4096, fd), TRTCOLL_EEXIST);
    close(fd);
    close(plain);
    fill(memory, 1);
    assert_int_equal(fake_run(&client, memory, memory + COUNT, COUNT, NULL), 0);
    assert_memory_equal(memory, memory + COUNT, COUNT * sizeof(float));
    assert_int_equal(staged_runs(&client), 0);
    assert_int_equal(trtcoll_free(client.ctx, memory), TRTCOLL_EINVAL);
    assert_int_equal(trtcoll_unregister(client.ctx, memory + 1), TRTCOLL_EINVAL);
    assert_int_equal(trtcoll_unregister(client.ctx, memory), 0);
    assert_int_equal(trtcoll_unregister(client.ctx, memory), TRTCOLL_EINVAL);
    munmap(memory, bytes);
    detach(&client);
}

/* Memory that a request in flight uses cannot be freed. */
static void test_busy_memory(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *event;
    void *memory;
    float *in;

    assert_int_equal(trtcoll_alloc(client.ctx, 2 * COUNT * sizeof(float), &memory), 0);
    in = memory;
    fake_hold(fake);
    assert_int_equal(fake_run(&client, in, in + COUNT, COUNT, &event), 0);
    assert_int_equal(trtcoll_free(client.ctx, memory), TRTCOLL_EBUSY);
    assert_int_equal(trtcoll_event_query(event), TRTCOLL_EAGAIN);
    atomic_store(&fake->hold, false);
    assert_int_equal(trtcoll_event_wait(event, 5000), 0);
    trtcoll_event_put(event);
    assert_int_equal(trtcoll_free(client.ctx, memory), 0);
    detach(&client);
}

/* Runs that are enqueued without waiting see what the runs before them deliver, though all of it is staged. */
static void test_chain(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *events[4];
    float a[COUNT], b[COUNT], c[COUNT];

    fill(a, 1);
    fill(b, -3000);
    fill(c, -6000);
    fake_hold(fake);
    assert_int_equal(fake_run(&client, a, b, COUNT, &events[0]), 0);
    assert_int_equal(fake_run(&client, b, c, COUNT, &events[1]), 0);     /* all of what the first delivers */
    assert_int_equal(fake_run(&client, c + 5, a + 5, 3, &events[2]), 0); /* a part of what the second delivers */
    assert_int_equal(fake_run(&client, a + 5, b, 3, &events[3]), 0);     /* and on */
    a[0] = 99;                                                           /* copied at submission: too late to matter */
    atomic_store(&fake->hold, false);
    for (int i = 3; i >= 0; i--) {
        assert_int_equal(trtcoll_event_wait(events[i], 5000), 0);
        trtcoll_event_put(events[i]);
    }
    assert_true(b[3] == 4 && c[0] == 1 && c[COUNT - 1] == COUNT);
    assert_true(a[5] == 6 && a[7] == 8 && a[8] == 9);
    assert_true(b[0] == 6 && b[2] == 8);
    detach(&client);
}

/* An input that an unfinished run delivers only in part cannot be read yet: nothing is enqueued, and later it works. */
static void test_partial_overlap(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *event;
    float a[COUNT], b[COUNT], c[COUNT];
    int code;

    fill(a, 1);
    fill(b, -3000);
    fake_hold(fake);
    assert_int_equal(fake_run(&client, a, b, 100, &event), 0);
    assert_int_equal(fake_run(&client, b + 50, c, 100, NULL), TRTCOLL_EAGAIN);
    assert_int_equal(in_flight(&client), 1);
    atomic_store(&fake->hold, false);
    while ((code = fake_run(&client, b + 50, c, 100, NULL)) == TRTCOLL_EAGAIN)
        poll(NULL, 0, 1);
    assert_int_equal(code, 0);
    assert_true(c[0] == 51 && c[49] == 100 && c[50] == -2900);
    trtcoll_event_put(event);
    detach(&client);
}

/* Known memory and staged memory that overlap: a buffer that reaches over the end of an allocation. */
static void test_straddling(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *event;
    int fd = tcw_memfd_create("mine", 8192, 0), code;
    float *memory = fake_map(fd, 8192), in[8], out[8];

    assert_int_equal(trtcoll_register(client.ctx, memory, 4096, fd), 0);
    for (int i = 0; i < 8; i++)
        in[i] = (float)i + 1;
    fake_hold(fake);
    assert_int_equal(fake_run(&client, in, memory + 1020, 8, &event), 0);             /* staged: its end is unknown memory */
    assert_int_equal(fake_run(&client, memory + 1020, out, 4, NULL), TRTCOLL_EAGAIN); /* would be read where it lies */
    atomic_store(&fake->hold, false);
    while ((code = fake_run(&client, memory + 1020, out, 4, NULL)) == TRTCOLL_EAGAIN)
        poll(NULL, 0, 1);
    assert_int_equal(code, 0);
    assert_memory_equal(in, out, 4 * sizeof(float));
    trtcoll_event_put(event);
    munmap(memory, 8192);
    close(fd);
    detach(&client);
}

/* There is a completion slot for every request: what does not fit is refused, and nothing is lost. */
static void test_full_ring(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *events[FAKE_RING], *none = NULL;
    float in[FAKE_RING], out[FAKE_RING] = {0};

    fake_hold(fake);
    for (int i = 0; i < FAKE_RING; i++) {
        in[i] = (float)i + 1;
        assert_int_equal(fake_run(&client, &in[i], &out[i], 1, &events[i]), 0);
    }
    assert_int_equal(fake_run(&client, &in[0], &out[0], 1, &none), TRTCOLL_EAGAIN);
    assert_null(none);
    assert_int_equal(in_flight(&client), FAKE_RING);
    assert_int_equal(trtcoll_event_wait(events[0], 20), TRTCOLL_ETIMEOUT);
    assert_int_equal(trtcoll_event_query(events[0]), TRTCOLL_EAGAIN);
    atomic_store(&fake->finish_one, true);
    assert_int_equal(trtcoll_event_wait(events[0], 5000), 0);
    assert_int_equal(fake_run(&client, &in[0], &out[0], 1, &none), 0);
    atomic_store(&fake->hold, false);
    for (int i = 0; i < FAKE_RING; i++) {
        assert_int_equal(trtcoll_event_wait(events[i], 5000), 0);
        assert_true(out[i] == in[i]);
        trtcoll_event_put(events[i]);
    }
    assert_int_equal(trtcoll_event_wait(none, UINT32_MAX), 0);
    trtcoll_event_put(none);
    assert_int_equal(in_flight(&client), 0);
    detach(&client);
}

/* An event that is given back early: the run is still delivered, and the event is used again only afterwards. */
static void test_forgotten_event(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *first, *second;
    float in[2] = {1, 2}, out[2] = {0};

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in[0], &out[0], 1, &first), 0);
    trtcoll_event_put(first);
    assert_int_equal(fake_run(&client, &in[1], &out[1], 1, &second), 0);
    assert_ptr_not_equal(first, second);
    atomic_store(&fake->hold, false);
    assert_int_equal(trtcoll_event_wait(second, 5000), 0);
    assert_true(out[0] == 1 && out[1] == 2);
    trtcoll_event_put(second);
    detach(&client);
}

static void test_event_status(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event_info info = {.size = sizeof(info)};
    struct trtcoll_event *event;
    float in = 1, out = 0;

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    assert_int_equal(trtcoll_event_status(event, &info), 0);
    assert_int_equal(info.code, TRTCOLL_EAGAIN);
    assert_int_equal(info.lane, TRTCOLL_LANE_SERVED);
    assert_int_equal(info.end_ns, 0);
    assert_true(info.submit_ns > 0);
    atomic_store(&fake->hold, false);
    assert_int_equal(trtcoll_event_wait(event, 5000), 0);
    assert_int_equal(trtcoll_event_status(event, &info), 0);
    assert_int_equal(info.code, 0);
    assert_true(info.submit_ns <= info.start_ns && info.start_ns <= info.end_ns);
    trtcoll_event_put(event);
    detach(&client);
}

/* A refused run is its own failure: the caller's output stays, the next run works. */
static void test_refused_run(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    float in = 1, out = 55;

    atomic_store(&fake->result, TCW_EINVAL);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), TRTCOLL_EINVAL);
    assert_non_null(strstr(fake_text(), "group g"));
    assert_true(out == 55);
    atomic_store(&fake->result, 0);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), 0);
    assert_true(out == 1);
    detach(&client);
}

static void break_page(struct tcw_member_page *page)
{
    struct tcw_abort_info info = {.code = TCW_EPEERDEAD, .rank = 0, .pid = 4711, .signal = 9, .step = 12, .text = "rank 0 was killed"};

    assert_int_equal(tcw_member_abort(page, &info), 1);
}

static void break_group(struct fake *fake)
{
    break_page(fake->page);
}

static void expect_death(struct fake_client *client)
{
    struct trtcoll_group_info group = {.size = sizeof(group)};
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;

    assert_int_equal(trtcoll_last_error(&error), TRTCOLL_EPEERDEAD);
    assert_int_equal(error.rank, 0);
    assert_int_equal(error.pid, 4711);
    assert_int_equal(error.signal, 9);
    assert_int_equal(error.step, 12);
    assert_string_equal(error.group, "g");
    assert_string_equal(error.text, "rank 0 was killed");
    assert_int_equal(trtcoll_group_status(client->group, &group), 0);
    assert_int_equal(group.state, TRTCOLL_GROUP_BROKEN);
    assert_int_equal(group.code, TRTCOLL_EPEERDEAD);
}

/* The executor is dead: nothing will ever be completed by it, so the client ends what is in flight, once. */
static void test_break_without_executor(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *events[2];
    float in = 1, out[2] = {50, 51};
    uint64_t start;

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out[0], 1, &events[0]), 0);
    assert_int_equal(fake_run(&client, &in, &out[1], 1, &events[1]), 0);
    break_group(fake);
    start = tcw_now_ns();
    assert_int_equal(trtcoll_event_wait(events[1], UINT32_MAX), TRTCOLL_EPEERDEAD);
    expect_death(&client);
    assert_true(tcw_now_ns() - start < 2000000000);
    assert_int_equal(trtcoll_event_query(events[0]), TRTCOLL_EPEERDEAD);
    assert_int_equal(in_flight(&client), 0);
    assert_int_equal(fake_run(&client, &in, &out[0], 1, NULL), TRTCOLL_EPEERDEAD);
    expect_death(&client);
    assert_true(out[0] == 50 && out[1] == 51);
    trtcoll_event_put(events[0]);
    trtcoll_event_put(events[1]);
    detach(&client);
}

/* A loop that only ever asks learns of it too. */
static void test_break_seen_by_query(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *event;
    float in = 1, out;
    int code;

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    break_group(fake);
    fake_await((code = trtcoll_event_query(event)) != TRTCOLL_EAGAIN);
    assert_int_equal(code, TRTCOLL_EPEERDEAD);
    expect_death(&client);
    trtcoll_event_put(event);
    detach(&client);
}

/* After re-forming everything is new; what belonged to the old instance says why it is over. */
static void test_reform(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_event *event;
    struct trtcoll_plan *old = client.plan;
    float in = 1, out = 0;

    assert_int_equal(trtcoll_group_reform(client.group, 0, 0), TRTCOLL_EINVAL);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), 0);
    assert_int_equal(trtcoll_all_reduce(client.group, &in, &out, 1, TRTCOLL_FP32, TRTCOLL_SUM), 0);
    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    break_group(fake);
    assert_int_equal(trtcoll_group_reform(client.group, 0, 0), 0);
    assert_int_equal(trtcoll_event_query(event), TRTCOLL_EPEERDEAD);
    atomic_store(&fake->hold, false);
    desc.dtype = TRTCOLL_FP32;
    desc.max_tokens = COUNT;
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), TRTCOLL_EPEERDEAD);
    assert_int_equal(trtcoll_plan_create_all_reduce(client.group, &desc, &client.plan), 0);
    in = 8;
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), 0);
    assert_true(out == 8);
    in = 9;
    assert_int_equal(trtcoll_all_reduce(client.group, &in, &out, 1, TRTCOLL_FP32, TRTCOLL_SUM), 0);
    assert_true(out == 9);
    assert_int_equal(trtcoll_plan_release(old), 0);
    assert_int_equal(trtcoll_event_query(event), TRTCOLL_EPEERDEAD);
    trtcoll_event_put(event);
    detach(&client);
}

static void *break_late(void *page)
{
    const struct timespec while_asked = {.tv_nsec = 100000000};

    nanosleep(&while_asked, NULL);
    break_page(page);
    return NULL;
}

/* Who has seen a run fail may re-form at once, also where the daemon's account of it takes longer. */
static void test_reform_before_account(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    float in = 1, out = 0;
    pthread_t thread;

    atomic_store(&fake->result, TCW_EINVAL); /* breaks nothing */
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), TRTCOLL_EINVAL);
    assert_int_equal(trtcoll_group_reform(client.group, 0, 0), TRTCOLL_EINVAL);
    atomic_store(&fake->result, TCW_EPEERDEAD);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), TRTCOLL_EPEERDEAD);
    assert_int_equal(pthread_create(&thread, NULL, break_late, fake->page), 0);
    assert_int_equal(trtcoll_group_reform(client.group, 0, 0), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    detach(&client);
}

/* Leaving ends what is in flight; the events outlive the group. */
static void test_leave_in_flight(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *event;
    float in = 1, out;

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    assert_int_equal(trtcoll_group_leave(client.group), 0);
    assert_int_equal(trtcoll_event_wait(event, 0), TRTCOLL_EABORTED);
    assert_non_null(strstr(fake_text(), "left"));
    detach(&client); /* with the event not given back */
}

static void test_daemon_dies(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_ctx_info info = {.size = sizeof(info)};
    struct trtcoll_event *event;
    float in = 1, out;

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    shutdown(fake->connection, SHUT_RDWR);
    assert_int_equal(trtcoll_event_wait(event, UINT32_MAX), TRTCOLL_ECONN);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), TRTCOLL_ECONN);
    assert_int_equal(trtcoll_ctx_info(client.ctx, &info), 0);
    assert_int_equal(info.connected, 0);
    trtcoll_event_put(event);
    assert_int_equal(trtcoll_group_leave(client.group), 0);
    detach(&client);
}

/* The direct lane needs no daemon. */
static void test_direct_without_daemon(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_DIRECT, COUNT);
    float in[COUNT], out[COUNT];

    fill(in, 3);
    shutdown(fake->connection, SHUT_RDWR);
    fake_await(fake->connection < 0);
    assert_int_equal(fake_run(&client, in, out, COUNT, NULL), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(trtcoll_plan_release(client.plan), 0);
    detach(&client);
}

static void test_lying_executor(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    float in = 1, out;

    atomic_store(&fake->corrupt, true);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), TRTCOLL_EPROTO);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), TRTCOLL_EPROTO);
    fake_await(fake_count(fake, TCW_MSG_GROUP_REPORT) == 1);
    detach(&client);
}

/* The deadline bounds waits for peers, not runs: an executor that is merely slow breaks nothing, whoever is waiting how long. */
static void test_slow_executor(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event *event;
    float in = 1, out = 0;
    int code;

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    assert_int_equal(trtcoll_event_wait(event, 6000), TRTCOLL_ETIMEOUT); /* thirty times the deadline */
    assert_int_equal(trtcoll_event_query(event), TRTCOLL_EAGAIN);
    atomic_store(&fake->hold, false);
    fake_await((code = trtcoll_event_query(event)) != TRTCOLL_EAGAIN);
    assert_int_equal(code, 0);
    assert_true(out == 1);
    assert_int_equal(fake_count(fake, TCW_MSG_GROUP_REPORT), 0);
    trtcoll_event_put(event);
    assert_int_equal(fake_run(&client, &in, &out, 1, NULL), 0);
    detach(&client);
}

/* A loop that only ever asks, and one that only ever tries to run, learn that the daemon is gone. */
static void test_daemon_death_seen_by_asking(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct trtcoll_event_info info = {.size = sizeof(info)};
    struct trtcoll_event *events[FAKE_RING];
    float in = 1, out[FAKE_RING];
    int code;

    for (int way = 0; way < 3; way++) {
        fake_hold(fake);
        for (int i = 0; i < FAKE_RING; i++)
            assert_int_equal(fake_run(&client, &in, &out[i], 1, &events[i]), 0);
        shutdown(fake->connection, SHUT_RDWR);
        switch (way) {
        case 0:
            fake_await((code = trtcoll_event_query(events[0])) != TRTCOLL_EAGAIN);
            break;
        case 1:
            fake_await(!trtcoll_event_status(events[0], &info) && info.code != TRTCOLL_EAGAIN);
            code = info.code;
            break;
        default:
            fake_await((code = fake_run(&client, &in, &out[0], 1, NULL)) != TRTCOLL_EAGAIN);
        }
        assert_int_equal(code, TRTCOLL_ECONN);
        for (int i = 0; i < FAKE_RING; i++) {
            fake_await((code = trtcoll_event_query(events[i])) != TRTCOLL_EAGAIN);
            assert_int_equal(code, TRTCOLL_ECONN);
            trtcoll_event_put(events[i]);
        }
        detach(&client);
        fake_await(fake->connection < 0);
        atomic_store(&fake->hold, false);
        client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    }
    detach(&client);
}

/* For event loops: the descriptor is readable after every completion, whoever takes it. */
static void test_group_fd(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct pollfd readable = {.events = POLLIN};
    struct trtcoll_event *events[2];
    float in = 1, out[2];
    uint64_t value;

    assert_int_equal(trtcoll_group_fd(client.group, &readable.fd), 0);
    while (read(readable.fd, &value, sizeof(value)) > 0)
        ;
    for (int round = 0; round < 3; round++) {
        fake_hold(fake);
        assert_int_equal(fake_run(&client, &in, &out[0], 1, &events[0]), 0);
        assert_int_equal(fake_run(&client, &in, &out[1], 1, &events[1]), 0);
        assert_int_equal(poll(&readable, 1, 0), 0);
        atomic_store(&fake->hold, false);
        if (round == 1)
            assert_int_equal(trtcoll_event_wait(events[0], 5000), 0); /* does not eat the notification */
        assert_int_equal(poll(&readable, 1, 5000), 1);
        assert_int_equal(read(readable.fd, &value, sizeof(value)), sizeof(value));
        for (int i = 0; i < 2; i++) {
            assert_int_equal(trtcoll_event_wait(events[i], 5000), 0);
            trtcoll_event_put(events[i]);
        }
        while (read(readable.fd, &value, sizeof(value)) > 0)
            ;
    }
    detach(&client);
}

/* An event loop without timeouts learns that nobody will complete its requests. */
static void test_group_fd_at_break(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, COUNT);
    struct pollfd readable = {.events = POLLIN};
    struct trtcoll_event *event;
    float in = 1, out;
    uint64_t value;
    int code;

    assert_int_equal(trtcoll_group_fd(client.group, &readable.fd), 0);
    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    while (read(readable.fd, &value, sizeof(value)) > 0)
        ;
    break_group(fake);
    tcw_ring_wake(readable.fd); /* as the control process does */
    do {
        assert_int_equal(poll(&readable, 1, 5000), 1);
        assert_int_equal(read(readable.fd, &value, sizeof(value)), sizeof(value));
        code = trtcoll_event_query(event);
    } while (code == TRTCOLL_EAGAIN);
    assert_int_equal(code, TRTCOLL_EPEERDEAD);
    trtcoll_event_put(event);
    detach(&client);
}

static void test_no_group_fd_yet(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_DIRECT, COUNT);
    int fd;

    assert_int_equal(trtcoll_group_fd(client.group, &fd), TRTCOLL_ENOENT);
    detach(&client);
}

/* Staging memory is kept and used again; when the quota is short, what is unused goes back first. */
static void test_staging_reuse(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, 4 << 20);
    static float in[3 << 20], out[3 << 20];
    unsigned allocations;

    fill(in, 1);
    for (int i = 0; i < 20; i++)
        assert_int_equal(fake_run(&client, in, out, COUNT, NULL), 0);
    assert_int_equal(fake_count(fake, TCW_MSG_MEM_ALLOC), 1); /* a megabyte, cut into blocks */
    assert_int_equal(fake_run(&client, in, out, 1 << 20, NULL), 0);
    allocations = fake_count(fake, TCW_MSG_MEM_ALLOC);
    assert_int_equal(fake_run(&client, in, out, 1 << 20, NULL), 0);
    assert_int_equal(fake_count(fake, TCW_MSG_MEM_ALLOC), allocations);
    atomic_store(&fake->alloc_limit, 28 << 20); /* two buffers of 12 MiB, but not beside the two of 4 */
    assert_int_equal(fake_run(&client, in, out, 3 << 20, NULL), 0);
    assert_memory_equal(in, out, sizeof(in));
    atomic_store(&fake->alloc_limit, 16 << 20);
    assert_int_equal(fake_run(&client, in, out, (3 << 20) - 300000, NULL), TRTCOLL_EQUOTA);
    assert_int_equal(in_flight(&client), 0);
    detach(&client);
}

#define with_fake(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_fake(test_staged),
        with_fake(test_zero_copy),
        with_fake(test_registered),
        with_fake(test_busy_memory),
        with_fake(test_chain),
        with_fake(test_partial_overlap),
        with_fake(test_straddling),
        with_fake(test_full_ring),
        with_fake(test_forgotten_event),
        with_fake(test_event_status),
        with_fake(test_refused_run),
        with_fake(test_break_without_executor),
        with_fake(test_break_seen_by_query),
        with_fake(test_reform),
        with_fake(test_reform_before_account),
        with_fake(test_leave_in_flight),
        with_fake(test_daemon_dies),
        with_fake(test_direct_without_daemon),
        with_fake(test_lying_executor),
        with_fake(test_slow_executor),
        with_fake(test_daemon_death_seen_by_asking),
        with_fake(test_group_fd),
        with_fake(test_group_fd_at_break),
        with_fake(test_no_group_fd_yet),
        with_fake(test_staging_reuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
