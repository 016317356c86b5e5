/*
 * Both ends of the ring as threads: nothing is lost, reordered or torn, and no wake-up is lost. A missing fence between "publish" and
 * "look at the sleep flag" shows as a sleeper that nobody wakes although work is there; the sleeper's poll is bounded, so it is a
 * failure and not a hang.
 */
#include "cmocka_all.h"
#include "ring_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { ENTRIES = 8, PATIENCE_MS = 20000 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { REQUESTS = 10000 };
#else
enum { REQUESTS = 40000 };
#endif

struct pair {
    struct ring_fixture ring;
    int sq_event, cq_event;
    const char *executor_fault; /* read after join */
    uint64_t executor_sleeps;
    unsigned jitter;
};

/* A few nanoseconds to a microsecond, so that going to sleep and posting meet at every distance. */
static void jitter(uint32_t *seed, unsigned most)
{
    *seed = *seed * 1664525u + 1013904223u;
    for (volatile unsigned i = (*seed >> 16) % (most + 1); i > 0;)
        i = i - 1;
}

static const char *sleep_on(int event)
{
    struct pollfd wait = {.fd = event, .events = POLLIN};
    return poll(&wait, 1, PATIENCE_MS) == 1 ? NULL : "asleep with work waiting: a wake-up was lost";
}

static void *executor_main(void *arg)
{
    struct pair *pair = arg;
    struct tcw_ring *ring = &pair->ring.executor;
    struct tcw_request request;
    const char *why = NULL;
    uint32_t seed = 12345;
    for (uint32_t expected = 0; expected < REQUESTS;) {
        int got = tcw_ring_take(ring, &request, &why);
        if (got < 0) {
            pair->executor_fault = why;
            return NULL;
        }
        if (!got) {
            jitter(&seed, pair->jitter);
            if (tcw_ring_arm_executor(ring)) {
                pair->executor_sleeps++;
                pair->executor_fault = sleep_on(pair->sq_event);
                tcw_ring_disarm_executor(ring);
                if (pair->executor_fault)
                    return NULL;
            }
            continue;
        }
        if (request.head.sequence != expected || request.head.ref_count != expected % 12) {
            pair->executor_fault = "a request is missing or out of order";
            return NULL;
        }
        for (unsigned i = 0; i < request.head.ref_count; i++)
            if (request.refs[i].handle != expected + i || request.refs[i].length != (uint64_t)expected * i)
                pair->executor_fault = "a reference is torn";
        struct tcw_cqe cqe = {.user_data = request.head.user_data, .result = 0, .start_ns = expected, .end_ns = ~(uint64_t)expected};
        if (tcw_ring_complete(ring, &cqe) != 0) {
            pair->executor_fault = "no room for a completion that was reserved";
            return NULL;
        }
        expected++;
    }
    return NULL;
}

/* Keeps up to `window` requests in flight; sleeps on the completion event when it has nothing else to do. */
static void run_client(struct pair *pair, uint32_t window)
{
    struct tcw_ring *ring = &pair->ring.client;
    uint32_t sent = 0, done = 0, seed = 99;
    while (done < REQUESTS) {
        struct tcw_ref refs[12];
        struct tcw_cqe cqe;
        bool wake = false, moved = false;
        if (sent < REQUESTS && sent - done < window) {
            struct tcw_sqe head = {.op = TCW_OP_NOP, .sequence = sent, .user_data = sent * 3ull, .ref_count = (uint16_t)(sent % 12)};
            for (unsigned i = 0; i < head.ref_count; i++)
                refs[i] = (struct tcw_ref){.handle = sent + i, .length = (uint64_t)sent * i};
            jitter(&seed, pair->jitter);
            if (tcw_ring_submit(ring, &head, refs, &wake) == 0) {
                sent++;
                moved = true;
                if (wake)
                    tcw_ring_wake(pair->sq_event);
            }
        }
        int got = tcw_ring_reap(ring, &cqe);
        assert_true(got >= 0);
        if (got) {
            assert_int_equal(cqe.user_data, done * 3ull);
            assert_int_equal(cqe.start_ns, done);
            assert_int_equal(cqe.end_ns, ~(uint64_t)done);
            done++;
            continue;
        }
        if (!moved && tcw_ring_arm_client(ring)) {
            const char *fault = sleep_on(pair->cq_event);
            tcw_ring_disarm_client(ring);
            if (fault)
                fail_msg("client %s", fault);
        }
    }
}

static void run_pair(uint32_t window, unsigned jitter_most)
{
    struct pair pair = {.jitter = jitter_most};
    pthread_t executor;
    pair.sq_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pair.cq_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_int_equal(ring_fixture_make(&pair.ring, ENTRIES, ENTRIES, pair.sq_event, pair.cq_event), 0);
    assert_int_equal(pthread_create(&executor, NULL, executor_main, &pair), 0);
    run_client(&pair, window);
    pthread_join(executor, NULL);
    if (pair.executor_fault)
        fail_msg("executor: %s", pair.executor_fault);
    ring_fixture_free(&pair.ring);
    close(pair.sq_event);
    close(pair.cq_event);
}

static void test_ping_pong(void **state)
{
    (void)state;
    run_pair(1, 300);
}

static void test_window(void **state)
{
    (void)state;
    run_pair(ENTRIES, 50);
}

/*
 * The fence itself. In every round one thread publishes and looks at the peer's flag while the other raises its flag and looks at the
 * index, as close together as two cores allow. Either the sleeper sees the work or the publisher sees the flag; both missing each other
 * is the lost wake-up. Nobody sleeps here, so a round costs nanoseconds and a missing fence shows within thousands of them.
 */
enum { MEET_ROUNDS = 200000, MEET_MS = 1500 };

struct meeting {
    struct ring_fixture ring;
    bool completions; /* which direction: the executor publishes and the client goes to sleep */
    _Alignas(128) _Atomic uint32_t publisher_at;
    _Alignas(128) _Atomic uint32_t sleeper_at;
    _Alignas(128) _Atomic uint32_t stop;
    uint64_t lost, armed, woken;
    bool slept; /* the sleeper's answer of this round, ordered by sleeper_at */
};

static bool meet(_Atomic uint32_t *mine, _Atomic uint32_t *other, uint32_t round, _Atomic uint32_t *stop)
{
    atomic_store(mine, round);
    for (unsigned spins = 0; atomic_load(other) < round; spins++) {
        if (atomic_load(stop))
            return false;
        if (spins > 1000)
            sched_yield();
    }
    return true;
}

static void *sleeper_main(void *arg)
{
    struct meeting *meeting = arg;
    uint32_t seed = 4711;
    for (uint32_t round = 1; meet(&meeting->sleeper_at, &meeting->publisher_at, 3 * round - 2, &meeting->stop); round++) {
        jitter(&seed, 12);
        meeting->slept = meeting->completions ? tcw_ring_arm_client(&meeting->ring.client) : tcw_ring_arm_executor(&meeting->ring.executor);
        if (!meet(&meeting->sleeper_at, &meeting->publisher_at, 3 * round - 1, &meeting->stop))
            break;
        /* Take what came in and lower the flag, while the publisher judges the round. */
        struct tcw_request request;
        struct tcw_cqe cqe;
        const char *why;
        if (meeting->completions) {
            tcw_ring_disarm_client(&meeting->ring.client);
            while (tcw_ring_reap(&meeting->ring.client, &cqe) == 1)
                ;
        } else {
            tcw_ring_disarm_executor(&meeting->ring.executor);
            while (tcw_ring_take(&meeting->ring.executor, &request, &why) == 1)
                ;
        }
        if (!meet(&meeting->sleeper_at, &meeting->publisher_at, 3 * round, &meeting->stop))
            break;
    }
    return NULL;
}

static void run_meeting(bool completions, int cq_event)
{
    static struct meeting meeting;
    struct tcw_ref none[1] = {{0}};
    pthread_t sleeper;
    uint32_t seed = 1;
    uint64_t start, now = 0;
    struct timespec clock;
    memset(&meeting, 0, sizeof(meeting));
    meeting.completions = completions;
    assert_int_equal(ring_fixture_make(&meeting.ring, ENTRIES, ENTRIES, -1, cq_event), 0);
    assert_int_equal(pthread_create(&sleeper, NULL, sleeper_main, &meeting), 0);
    clock_gettime(CLOCK_MONOTONIC, &clock);
    start = (uint64_t)clock.tv_sec * 1000u + (uint64_t)clock.tv_nsec / 1000000u;
    for (uint32_t round = 1; round <= MEET_ROUNDS && now < start + MEET_MS; round++) {
        bool wake = false;
        uint64_t count;
        meet(&meeting.publisher_at, &meeting.sleeper_at, 3 * round - 2, &meeting.stop);
        jitter(&seed, 12);
        if (completions) {
            struct tcw_cqe cqe = {.user_data = round};
            assert_int_equal(tcw_ring_complete(&meeting.ring.executor, &cqe), 0);
            wake = read(cq_event, &count, sizeof(count)) == (ssize_t)sizeof(count);
        } else {
            struct tcw_sqe head = {.op = TCW_OP_NOP, .sequence = round};
            assert_int_equal(tcw_ring_submit(&meeting.ring.client, &head, none, &wake), 0);
        }
        meet(&meeting.publisher_at, &meeting.sleeper_at, 3 * round - 1, &meeting.stop);
        meeting.armed += meeting.slept;
        meeting.woken += wake;
        meeting.lost += meeting.slept && !wake;
        meet(&meeting.publisher_at, &meeting.sleeper_at, 3 * round, &meeting.stop);
        if (round % 256 == 0) {
            clock_gettime(CLOCK_MONOTONIC, &clock);
            now = (uint64_t)clock.tv_sec * 1000u + (uint64_t)clock.tv_nsec / 1000000u;
        }
    }
    atomic_store(&meeting.stop, 1);
    pthread_join(sleeper, NULL);
    ring_fixture_free(&meeting.ring);
    if (meeting.lost)
        fail_msg("%llu of %llu sleepers would not have been woken", (unsigned long long)meeting.lost, (unsigned long long)meeting.armed);
    assert_true(meeting.armed > 0); /* else nothing was tested */
}

static void test_executor_is_always_woken(void **state)
{
    (void)state;
    run_meeting(false, -1);
}

static void test_client_is_always_woken(void **state)
{
    (void)state;
    int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    run_meeting(true, event);
    close(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ping_pong),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_executor_is_always_woken),
        cmocka_unit_test(test_client_is_always_woken),
    };
    return cmocka_run_group_tests_name("ring between threads", tests, NULL, NULL);
}
