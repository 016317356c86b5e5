/*
 * The control process's side of GPUs without any: a struct tcd_daemon with nothing but what devices and communicators need, and executors
 * played by this program itself, which behave as the uuid of their device says. Owner: the test.
 */
#ifndef TESTS_DAEMON_GPU_FIXTURE_H
#define TESTS_DAEMON_GPU_FIXTURE_H

#include "cmocka_all.h"

#include "daemon/control/communicator.h"
#include "daemon/control/daemon.h"
#include "daemon/control/environment.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NODE_PATIENCE_MS = 20000, NODE_SOCKET = 3 };

/* ---- the executor ---- */

/* Lines "DEVICE what" in the file that everybody knows. */
static inline void fake_note(const char *device, const char *what)
{
    char line[64];
    int fd = open(getenv("TRTCOLL_TEST_NOTES"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int bytes = snprintf(line, sizeof(line), "%s %s\n", device, what);

    if (fd < 0 || write(fd, line, (size_t)bytes) != bytes)
        abort();
    close(fd);
}

static inline void fake_send(struct tcd_ex_message *message)
{
    if (tcd_ex_send(NODE_SOCKET, message, NULL, 0))
        exit(1);
}

static inline void fake_ready(const char *device, const char *gpu)
{
    struct tcd_ex_message ready = {.opcode = TCD_EX_READY, .value = (uint64_t)getpid()};

    if (!strncmp(gpu, "broken", 6)) {
        ready.code = TCW_ENOTSUP;
        snprintf(ready.text, sizeof(ready.text), "no driver, says %s", gpu);
    } else if (!strncmp(gpu, "stillborn", 9)) {
        exit(9);
    } else {
        ready.facts.device.uuid[0] = (unsigned char)atoi(device);
        ready.facts.device.compute = 90;
        ready.facts.library = 22803;
        snprintf(ready.facts.device.name, sizeof(ready.facts.device.name), "Toy %s", device);
    }
    fake_note(device, "ready");
    fake_send(&ready);
}

static inline void fake_communicator(const char *device, const char *gpu, const struct tcd_ex_message *message, unsigned fd_count)
{
    struct tcd_ex_message answer = {.opcode = TCD_EX_DONE, .cookie = message->cookie, .value = (10 + message->rank) << 20};
    char expected[TCD_EX_BLOB_BYTES];

    memset(expected, 'a', sizeof(expected));
    fake_note(device, "comm");
    if (!strncmp(gpu, "silent", 6))
        return;
    if (!strncmp(gpu, "dying", 5))
        exit(7);
    if (!strncmp(gpu, "failing", 7)) {
        answer.code = TCW_EIO;
        snprintf(answer.text, sizeof(answer.text), "the cable is out");
    } else if (fd_count != 1 || memcmp(message->blob, expected, sizeof(expected)) != 0 || !message->communicator) {
        answer.code = TCW_EINTERNAL;
        snprintf(answer.text, sizeof(answer.text), "not what a communicator needs");
    }
    fake_send(&answer);
}

/* To be called first by main(): does not return in an executor. */
static inline void fake_executor_main(int argc, char **argv)
{
    struct tcd_ex_message message;
    int fds[TCW_MAX_FDS];
    unsigned fd_count, i;

    if (argc != 6 || strcmp(argv[1], "--executor") != 0 || strcmp(argv[4], "--cuda") != 0)
        return;
    fake_ready(argv[3], argv[5]);
    for (;;) {
        struct pollfd watched = {.fd = NODE_SOCKET, .events = POLLIN};
        struct tcd_ex_message answer = {.opcode = TCD_EX_DONE};
        int got = tcd_ex_receive(NODE_SOCKET, &message, fds, &fd_count);

        if (got == 0) {
            poll(&watched, 1, -1);
            continue;
        }
        if (got < 0 || message.opcode == TCD_EX_QUIT)
            exit(0);
        for (i = 0; i < fd_count; i++)
            close(fds[i]);
        answer.cookie = message.cookie;
        if (message.opcode == TCD_EX_COMM) {
            fake_communicator(argv[3], argv[5], &message, fd_count);
            continue;
        }
        if (message.opcode == TCD_EX_COMM_DROP)
            fake_note(argv[3], "drop");
        if (message.opcode == TCD_EX_UNIQUE_ID)
            memset(answer.blob, 'a', sizeof(answer.blob));
        if (message.cookie)
            fake_send(&answer);
    }
}

/* ---- the node ---- */

struct node {
    struct tcd_daemon daemon;
    char notes[64];
};

static inline void node_on_timer(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Turns the loop until the condition holds. */
#define NODE_UNTIL(node, condition)                                                                                                        \
    do {                                                                                                                                   \
        bool late_ = false;                                                                                                                \
        uv_timer_t timer_, tick_;                                                                                                          \
        bool ticked_ = false;                                                                                                              \
        uv_update_time(&(node)->daemon.loop);                                                                                              \
        uv_timer_init(&(node)->daemon.loop, &timer_);                                                                                      \
        uv_timer_init(&(node)->daemon.loop, &tick_);                                                                                       \
        timer_.data = &late_;                                                                                                              \
        tick_.data = &ticked_;                                                                                                             \
        uv_timer_start(&timer_, node_on_timer, NODE_PATIENCE_MS, 0);                                                                       \
        uv_timer_start(&tick_, node_on_timer, 5, 5); /* conditions may change outside of the loop */                                       \
        while (!(condition) && !late_)                                                                                                     \
            uv_run(&(node)->daemon.loop, UV_RUN_ONCE);                                                                                     \
        uv_close((uv_handle_t *)&timer_, NULL);                                                                                            \
        uv_close((uv_handle_t *)&tick_, NULL);                                                                                             \
        uv_run(&(node)->daemon.loop, UV_RUN_NOWAIT);                                                                                       \
        if (late_)                                                                                                                         \
            fail_msg("in vain: %s", #condition);                                                                                           \
    } while (0)

/* How often a line stands in the notes. */
static inline unsigned node_noted(const struct node *node, const char *line)
{
    char text[64];
    unsigned count = 0;
    FILE *file = fopen(node->notes, "r");

    while (file && fgets(text, sizeof(text), file)) {
        text[strcspn(text, "\n")] = 0;
        count += !strcmp(text, line);
    }
    if (file)
        fclose(file);
    return count;
}

static inline bool node_ready(const struct node *node, uint32_t device)
{
    const struct tcd_executor *executor = node->daemon.devices[device].executor;

    return executor && tcd_executor_ready(executor);
}

static inline void node_open(struct node *node, const char *config)
{
    struct tcd_daemon *daemon = &node->daemon;
    struct tcf_issues issues = {0};

    memset(node, 0, sizeof(*node));
    snprintf(node->notes, sizeof(node->notes), "/tmp/trtcoll-notes-%d", (int)getpid());
    unlink(node->notes);
    setenv("TRTCOLL_TEST_NOTES", node->notes, 1);
    snprintf(daemon->program, sizeof(daemon->program), "/proc/self/exe");
    daemon->config = tcf_config_parse("test", config, strlen(config), &issues);
    if (!daemon->config)
        tcf_issues_print(&issues, stderr);
    assert_non_null(daemon->config);
    tcd_handles_init(&daemon->instances, 100);
    tcd_handles_init(&daemon->attachments, 100);
    tcd_handles_init(&daemon->communicator_ids, 100);
    tcd_list_init(&daemon->communicators);
    tcd_list_init(&daemon->groups);
    assert_int_equal(uv_loop_init(&daemon->loop), 0);
    tcd_clock_open(&daemon->clock, &daemon->loop);
    daemon->environment = tcd_environment_make(environ, false);
    assert_non_null(daemon->environment);
    assert_int_equal(tcd_devices_open(daemon), 0);
}

static inline void node_close(struct node *node)
{
    struct tcd_daemon *daemon = &node->daemon;

    daemon->ended = true;
    tcd_alarm_stop(&daemon->communicator_start);
    tcd_devices_close(daemon, 2000);
    tcd_clock_close(&daemon->clock);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&daemon->loop), 0);
    tcd_communicators_clear(daemon);
    tcd_handles_clear(&daemon->instances);
    tcd_handles_clear(&daemon->attachments);
    tcd_handles_clear(&daemon->communicator_ids);
    tcd_environment_free(daemon->environment);
    tcf_config_free(daemon->config);
    unlink(node->notes);
}

#endif
