/* Communicators as the control process keeps them, with executors that behave, fail, keep silent and die; GPUs that cannot be used. */
#include "daemon_gpu_fixture.h"

#define NO_PREPARE             "\"executor\":{\"prepare_communicators\":false}"
#define GPU(number, how)       "{\"number\":" #number ",\"kind\":\"cuda\",\"uuid\":\"" how "-" #number "\"}"
#define GPUS(how0, how1, how2) "\"devices\":[" GPU(0, how0) "," GPU(1, how1) "," GPU(2, how2) "]"

struct outcome {
    unsigned count;
    struct tcw_error error;
    struct tcd_communicator_wait wait;
};

static void on_done(void *arg, const struct tcw_error *error)
{
    struct outcome *outcome = arg;

    outcome->count++;
    outcome->error = error ? *error : (struct tcw_error){.code = 0};
}

/* The communicator of some devices, given as "021". */
static struct tcd_communicator *get(struct node *node, const char *ranks)
{
    struct tcd_device *devices[TCW_MAX_RANKS];
    struct tcd_communicator *communicator;
    struct tcw_error error;
    uint32_t size = 0;

    for (; ranks[size]; size++)
        devices[size] = &node->daemon.devices[ranks[size] - '0'];
    communicator = tcd_communicator_get(&node->daemon, devices, size, &error);
    assert_non_null(communicator);
    return communicator;
}

static void expect(struct node *node, struct tcd_communicator *communicator, struct outcome *outcome)
{
    *outcome = (struct outcome){.count = 0};
    tcd_communicator_await(communicator, &outcome->wait, on_done, outcome);
    NODE_UNTIL(node, outcome->count);
    assert_int_equal(outcome->count, 1);
    assert_null(outcome->wait.communicator);
}

static struct tcd_communicator *make(struct node *node, const char *ranks)
{
    struct tcd_communicator *communicator = get(node, ranks);
    struct outcome outcome;

    if (communicator->state != TCD_COMM_READY) {
        expect(node, communicator, &outcome);
        assert_int_equal(outcome.error.code, 0);
    }
    assert_int_equal(communicator->state, TCD_COMM_READY);
    return communicator;
}

static void test_shared_and_kept(void **state)
{
    struct tcd_communicator *one, *same, *other;
    struct node node;
    uint64_t id;

    (void)state;
    node_open(&node, "{" NO_PREPARE "," GPUS("good", "good", "good") "}");
    one = make(&node, "01");
    same = make(&node, "01");
    other = make(&node, "10");
    assert_ptr_equal(one, same);
    assert_ptr_not_equal(one, other);
    assert_int_equal(one->users, 2);
    assert_int_equal(one->bytes, 11 << 20); /* rank 1 said so */
    assert_int_equal(node_noted(&node, "0 comm"), 2);
    assert_int_equal(node_noted(&node, "2 comm"), 0);
    id = one->id;
    tcd_communicator_put(one);
    tcd_communicator_put(one);
    one = make(&node, "01");
    assert_true(one->id == id);
    assert_int_equal(node_noted(&node, "0 comm"), 2);
    tcd_communicator_put(one);
    tcd_communicator_put(other);
    node_close(&node);
}

static void test_idle_ones_end(void **state)
{
    static const char *const lists[] = {"01", "10", "02", "20", "12", "21"};
    struct tcd_communicator *kept;
    struct node node;
    unsigned i;

    (void)state;
    node_open(&node, "{" NO_PREPARE "," GPUS("good", "good", "good") "}");
    kept = make(&node, "012");
    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        tcd_communicator_put(make(&node, lists[i]));
    /* Four may be idle: the two that were used first have gone, 0-1 and 1-0. */
    NODE_UNTIL(&node, node_noted(&node, "0 drop") == 2 && node_noted(&node, "1 drop") == 2);
    assert_int_equal(node_noted(&node, "2 drop"), 0);
    assert_int_equal(node.daemon.communicator_ids.count, 5);
    tcd_communicator_put(kept);
    node_close(&node);
}

static void test_one_rank_fails(void **state)
{
    struct tcd_communicator *communicator;
    struct outcome outcome;
    struct node node;

    (void)state;
    node_open(&node, "{" NO_PREPARE "," GPUS("good", "failing", "good") "}");
    communicator = get(&node, "201");
    expect(&node, communicator, &outcome);
    assert_int_equal(outcome.error.code, TCW_EIO);
    assert_non_null(strstr(outcome.error.text, "devices 2, 0 and 1"));
    assert_non_null(strstr(outcome.error.text, "rank 2, device 1"));
    assert_non_null(strstr(outcome.error.text, "the cable is out"));
    assert_int_equal(communicator->state, TCD_COMM_ENDED);
    tcd_communicator_put(communicator);
    NODE_UNTIL(&node, node_noted(&node, "0 drop") && node_noted(&node, "1 drop") && node_noted(&node, "2 drop"));
    /* Not in the way of others. */
    tcd_communicator_put(make(&node, "02"));
    node_close(&node);
}

static void test_one_rank_is_silent(void **state)
{
    struct tcd_communicator *communicator;
    struct outcome outcome, left = {.count = 0};
    struct node node;

    (void)state;
    node_open(&node, "{" NO_PREPARE ",\"deadlines\":{\"communicator_ms\":300}," GPUS("good", "good", "silent") "}");
    NODE_UNTIL(&node, node_ready(&node, 0) && node_ready(&node, 1) && node_ready(&node, 2));
    communicator = get(&node, "012");
    tcd_communicator_await(communicator, &left.wait, on_done, &left);
    tcd_communicator_wait_end(&left.wait);
    expect(&node, communicator, &outcome);
    assert_int_equal(left.count, 0);
    assert_int_equal(outcome.error.code, TCW_ETIMEOUT);
    assert_non_null(strstr(outcome.error.text, "rank 2 did not finish within"));
    tcd_communicator_put(communicator);
    node_close(&node);
}

static void test_death_while_making(void **state)
{
    struct tcd_communicator *communicator;
    struct outcome outcome;
    struct node node;

    (void)state;
    node_open(&node, "{" NO_PREPARE "," GPUS("good", "dying", "good") "}");
    communicator = get(&node, "01");
    expect(&node, communicator, &outcome);
    assert_int_equal(outcome.error.code, TCW_EEXECUTOR);
    assert_non_null(strstr(outcome.error.text, "device 1"));
    tcd_communicator_put(communicator);
    NODE_UNTIL(&node, node_noted(&node, "0 drop"));
    NODE_UNTIL(&node, node_noted(&node, "1 ready") == 2);
    assert_int_equal(node_noted(&node, "1 drop"), 0); /* the new process never knew it */
    node_close(&node);
}

static void test_death_of_an_executor(void **state)
{
    struct tcd_communicator *communicator, *next, *other;
    struct node node;
    uint64_t id;

    (void)state;
    node_open(&node, "{" NO_PREPARE "," GPUS("good", "good", "good") "}");
    communicator = make(&node, "012");
    other = make(&node, "01");
    id = communicator->id;
    assert_int_equal(kill(tcd_executor_pid(node.daemon.devices[2].executor), SIGKILL), 0);
    NODE_UNTIL(&node, communicator->state == TCD_COMM_ENDED);
    assert_int_equal(communicator->error.code, TCW_EEXECUTOR);
    assert_int_equal(other->state, TCD_COMM_READY);
    NODE_UNTIL(&node, node_noted(&node, "0 drop") == 1 && node_noted(&node, "1 drop") == 1);
    /* Made anew at once, by the executor that has been started without being asked for. */
    next = make(&node, "012");
    assert_ptr_not_equal(next, communicator);
    assert_true(next->id != id);
    assert_int_equal(tcd_executor_restarts(node.daemon.devices[2].executor), 1);
    tcd_communicator_put(communicator);
    tcd_communicator_put(next);
    tcd_communicator_put(other);
    node_close(&node);
}

static void test_fault_of_a_communicator(void **state)
{
    struct tcd_ex_message fault = {.opcode = TCD_EX_FAULT, .code = TCW_EIO, .rank = 1, .text = "an asynchronous error"};
    struct tcd_communicator *communicator;
    struct node node;

    (void)state;
    node_open(&node, "{" NO_PREPARE "," GPUS("good", "good", "good") "}");
    communicator = make(&node, "01");
    fault.communicator = communicator->id + 77;
    tcd_communicator_fault(&node.daemon.devices[1], &fault);
    assert_int_equal(communicator->state, TCD_COMM_READY);
    fault.communicator = communicator->id;
    tcd_communicator_fault(&node.daemon.devices[1], &fault);
    assert_int_equal(communicator->state, TCD_COMM_ENDED);
    assert_non_null(strstr(communicator->error.text, "an asynchronous error"));
    tcd_communicator_put(communicator);
    NODE_UNTIL(&node, node_noted(&node, "0 drop") == 1 && node_noted(&node, "1 drop") == 1);
    node_close(&node);
}

static struct tcd_communicator *first(struct node *node)
{
    struct tcd_link *link = node->daemon.communicators.next;

    return link == &node->daemon.communicators ? NULL : TCD_ENTRY(link, struct tcd_communicator, link);
}

static void test_prepared(void **state)
{
    struct tcd_communicator *communicator;
    struct node node;

    (void)state;
    node_open(&node,
              "{" GPUS("good", "good", "good") ",\"groups\":[{\"name\":\"a\",\"ranks\":[2,1]},{\"name\":\"b\",\"ranks\":[2,1]},"
                                               "{\"name\":\"c\",\"ranks\":[0]},{\"name\":\"d\",\"ranks\":[0,1],\"lane\":\"direct\"}]}");
    NODE_UNTIL(&node, first(&node) && first(&node)->state == TCD_COMM_READY);
    communicator = first(&node);
    assert_int_equal(node.daemon.communicator_ids.count, 1);
    assert_int_equal(communicator->users, 0);
    assert_true(communicator->configured);
    assert_int_equal(node_noted(&node, "0 comm"), 0);
    /* And again after a death, without anybody asking. */
    assert_int_equal(kill(tcd_executor_pid(node.daemon.devices[1].executor), SIGKILL), 0);
    NODE_UNTIL(&node, node_noted(&node, "2 comm") == 2 && first(&node) && first(&node)->state == TCD_COMM_READY);
    node_close(&node);
}

static void test_unusable(void **state)
{
    struct tcd_ex_message ask = {.opcode = TCD_EX_UNIQUE_ID};
    const struct tcd_device *broken, *stillborn;
    struct tcw_error error;
    struct node node;

    (void)state;
    node_open(&node, "{" NO_PREPARE "," GPUS("good", "broken", "stillborn") "}");
    broken = &node.daemon.devices[1];
    stillborn = &node.daemon.devices[2];
    assert_int_equal(tcd_device_check(broken, &error), 0); /* nothing is known yet */
    assert_false(tcd_device_known(broken));
    NODE_UNTIL(&node, tcd_device_check(broken, &error) && tcd_device_check(stillborn, &error));
    assert_int_equal(tcd_device_check(broken, &error), TCW_ENOTSUP);
    assert_non_null(strstr(error.text, "device 1 cannot be used: no driver, says broken-1"));
    assert_int_equal(tcd_device_check(stillborn, &error), TCW_EEXECUTOR);
    assert_non_null(strstr(error.text, "status 9"));
    assert_int_equal(tcd_device_request(&node.daemon.devices[1], &ask, NULL, 0, NULL, NULL, &error), TCW_ENOTSUP);
    /* Tried again, after a pause. */
    NODE_UNTIL(&node, node_noted(&node, "1 ready") >= 2);
    assert_int_equal(tcd_device_check(broken, &error), TCW_ENOTSUP);
    assert_int_equal(tcd_executor_restarts(broken->executor), 0);
    NODE_UNTIL(&node, node_ready(&node, 0));
    assert_true(tcd_device_known(&node.daemon.devices[0]));
    assert_int_equal(node.daemon.devices[0].facts.library, 22803);
    node_close(&node);
}

static void test_not_built_in(void **state)
{
    struct tcw_error error;
    struct node node;

    (void)state;
    node_open(&node, "{\"devices\":{\"cuda\":2}}");
    assert_int_equal(tcd_device_check(&node.daemon.devices[1], &error), TCW_ENOTSUP);
    assert_non_null(strstr(error.text, "not built in"));
    assert_null(tcd_device_least(&node.daemon, NULL, NULL));
    node_close(&node);
}

/* ---- the environment of executors ---- */

static const char *value_of(char *const *environment, const char *name)
{
    const char *found = NULL;
    unsigned count = 0;

    for (; *environment; environment++) {
        if (strncmp(*environment, name, strlen(name)) != 0 || (*environment)[strlen(name)] != '=')
            continue;
        found = *environment + strlen(name) + 1;
        count++;
    }
    assert_true(count < 2);
    return found;
}

static void test_environment(void **state)
{
    char path[] = "PATH=/bin", nvls[] = "NCCL_NVLS_ENABLE=1", order[] = "CUDA_DEVICE_ORDER=FASTEST_FIRST", debug[] = "NCCL_DEBUG=INFO";
    char *plain[] = {path, NULL}, *own[] = {path, nvls, order, debug, NULL};
    char **made, text[80], small[40];

    (void)state;
    made = tcd_environment_make(plain, false);
    assert_string_equal(value_of(made, "PATH"), "/bin");
    assert_string_equal(value_of(made, "CUDA_DEVICE_ORDER"), "PCI_BUS_ID");
    assert_string_equal(value_of(made, "CUDA_DEVICE_MAX_CONNECTIONS"), "32");
    assert_string_equal(value_of(made, "NCCL_NVLS_ENABLE"), "0");
    tcd_environment_free(made);
    made = tcd_environment_make(own, false);
    assert_string_equal(value_of(made, "CUDA_DEVICE_ORDER"), "FASTEST_FIRST");
    assert_string_equal(value_of(made, "NCCL_NVLS_ENABLE"), "0");
    tcd_environment_free(made);
    made = tcd_environment_make(own, true);
    assert_string_equal(value_of(made, "NCCL_NVLS_ENABLE"), "1");
    tcd_environment_free(made);
    made = tcd_environment_make(plain, true);
    assert_null(value_of(made, "NCCL_NVLS_ENABLE"));
    tcd_environment_text(made, text, sizeof(text));
    assert_string_equal(text, "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_DEVICE_MAX_CONNECTIONS=32");
    tcd_environment_text(made, small, sizeof(small));
    assert_string_equal(small, "CUDA_DEVICE_ORDER=PCI_BUS_ID ..."); /* what has no room is not passed over in silence */
    tcd_environment_text(made, small, 4);
    assert_string_equal(small, "...");
    tcd_environment_free(made);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest with_cuda[] = {
        cmocka_unit_test(test_shared_and_kept),
        cmocka_unit_test(test_idle_ones_end),
        cmocka_unit_test(test_one_rank_fails),
        cmocka_unit_test(test_one_rank_is_silent),
        cmocka_unit_test(test_death_while_making),
        cmocka_unit_test(test_death_of_an_executor),
        cmocka_unit_test(test_fault_of_a_communicator),
        cmocka_unit_test(test_prepared),
        cmocka_unit_test(test_unusable),
        cmocka_unit_test(test_environment),
    };
    const struct CMUnitTest without_cuda[] = {cmocka_unit_test(test_not_built_in), cmocka_unit_test(test_environment)};

    fake_executor_main(argc, argv);
    return tck_cuda_built() ? cmocka_run_group_tests(with_cuda, NULL, NULL) : cmocka_run_group_tests(without_cuda, NULL, NULL);
}
