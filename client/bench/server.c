#include "server.h"

#include "json_text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 10000, STOP_MS = 30000, STEP_MS = 20, CTL_S = 10 };

static void nap(void)
{
    usleep(STEP_MS * 1000);
}

/* The process that listens behind a socket, or -1. */
static pid_t listener(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {.pid = -1};
    socklen_t size = sizeof(peer);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        peer.pid = -1;
    if (fd >= 0)
        close(fd);
    return peer.pid;
}

static bool find_daemon(const struct settings *settings, char *path, size_t size)
{
    static const char *const places[] = {"../daemon/trtcolld", "../sbin/trtcolld", "trtcolld"};
    char directory[256];
    if (settings->daemon_path) {
        snprintf(path, size, "%s", settings->daemon_path);
        return access(path, X_OK) == 0;
    }
    machine_own_directory(directory, sizeof(directory));
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(path, size, "%s/%s", directory, places[i]);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* As many host devices as there are ranks, executors that stay; or GPUs, and nothing that waits longer than a measurement may. */
static void write_configuration(const struct settings *settings, FILE *file)
{
    if (!settings->cuda) {
        fprintf(file, "{\"devices\": {\"host\": %u}, \"executor\": {\"grace_s\": 3600}}\n", settings->ranks);
        return;
    }
    fprintf(file, "{\"devices\": {\"cuda\": %u}, \"deadlines\": {\"operation_ms\": 10000}", settings->ranks);
    if (settings->tuning_path) {
        fprintf(file, ", \"choosing\": {\"tuning\": ");
        json_text(file, settings->tuning_path);
        fprintf(file, "}");
    }
    if (settings->configured_group) {
        fprintf(file, ", \"groups\": [{\"name\": \"" BENCH_GROUP "\", \"ranks\": [");
        for (uint32_t rank = 0; rank < settings->ranks; rank++)
            fprintf(file, "%s%u", rank ? ", " : "", rank);
        fprintf(file, "]}]");
    }
    fprintf(file, "}\n");
}

static bool configure(const struct settings *settings, const struct server *server)
{
    char path[192];
    snprintf(path, sizeof(path), "%s/bench.json", server->directory);
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    write_configuration(settings, file);
    return fclose(file) == 0;
}

/* A directory with a configuration. */
static bool prepare(const struct settings *settings, struct server *server)
{
    const char *base = getenv("TMPDIR");
    snprintf(server->directory, sizeof(server->directory), "%s/trtcoll-bench.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(server->directory)) {
        fprintf(stderr, "trtcoll-bench: %s: %s\n", server->directory, strerror(errno));
        server->directory[0] = 0;
        return false;
    }
    snprintf(server->socket_path, sizeof(server->socket_path), "%s/trtcolld.sock", server->directory);
    return configure(settings, server);
}

static void become_daemon(const char *program, const struct server *server, pid_t parent)
{
    char config[192], log[192];
    snprintf(config, sizeof(config), "%s/bench.json", server->directory);
    snprintf(log, sizeof(log), "%s/log", server->directory);
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    setpgid(0, 0); /* an interrupt at the terminal is ours to handle */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ||
        setenv("RUNTIME_DIRECTORY", server->directory, 1) != 0)
        _exit(127);
    execl(program, "trtcolld", "--config", config, (char *)NULL);
    _exit(127);
}

void server_show_log(const struct server *server)
{
    char path[192], line[512];
    snprintf(path, sizeof(path), "%s/log", server->directory);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file))
        fprintf(stderr, "  trtcolld: %s", line);
    if (file)
        fclose(file);
}

static _Noreturn void become_ctl(const struct server *server, const char *command, int to)
{
    char directory[256], path[320];
    machine_own_directory(directory, sizeof(directory));
    snprintf(path, sizeof(path), "%s/trtcollctl", directory);
    alarm(CTL_S);
    if (dup2(to, STDOUT_FILENO) >= 0) {
        execl(path, "trtcollctl", "--runtime-dir", server->directory, command, (char *)NULL);
        execlp("trtcollctl", "trtcollctl", "--runtime-dir", server->directory, command, (char *)NULL);
    }
    _exit(127);
}

int server_ctl(const struct server *server, const char *command, char *text, size_t size)
{
    int ends[2], status = -1;
    size_t got = 0;
    text[0] = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return EXIT_FAILED;
    pid_t child = fork();
    if (child == 0)
        become_ctl(server, command, ends[1]);
    close(ends[1]);
    for (ssize_t more; child > 0 && (more = read(ends[0], text + got, size - 1 - got)) > 0;)
        got += (size_t)more;
    text[got] = 0;
    close(ends[0]);
    if (child > 0)
        waitpid(child, &status, 0);
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EXIT_FAILED;
}

int server_reload(const struct settings *settings, const struct server *server)
{
    char text[1024];
    if (!configure(settings, server))
        return EXIT_FAILED;
    return server_ctl(server, "reload", text, sizeof(text));
}

int server_prepare(struct settings *settings, struct server *server)
{
    *server = (struct server){.pid = -1};
    if (!prepare(settings, server))
        return EXIT_NO_DAEMON;
    settings->socket_path = server->socket_path;
    return 0;
}

int server_launch(const struct settings *settings, struct server *server)
{
    char program[512];
    if (!find_daemon(settings, program, sizeof(program))) {
        fprintf(stderr, "trtcoll-bench: trtcolld not found; --daemon names it, --socket uses a running one\n");
        return EXIT_NO_DAEMON;
    }
    pid_t parent = getpid();
    server->own = true;
    server->pid = fork();
    if (server->pid == 0)
        become_daemon(program, server, parent);
    for (int waited = 0; server->pid > 0 && waited < START_MS && !bench_interrupted(); waited += STEP_MS) {
        int status;
        if (listener(server->socket_path) > 0)
            return 0;
        if (waitpid(server->pid, &status, WNOHANG) == server->pid)
            server->pid = -1;
        else
            nap();
    }
    if (bench_interrupted()) {
        fprintf(stderr, "trtcoll-bench: interrupted\n");
        return EXIT_FAILED;
    }
    fprintf(stderr, "trtcoll-bench: %s did not start\n", program);
    server_show_log(server);
    return EXIT_NO_DAEMON;
}

int server_start(struct settings *settings, struct server *server)
{
    *server = (struct server){.pid = -1};
    if (settings->socket_path && !settings->cuda) {
        snprintf(server->socket_path, sizeof(server->socket_path), "%s", settings->socket_path);
        server->pid = listener(server->socket_path);
        if (server->pid > 0)
            return 0;
        fprintf(stderr, "trtcoll-bench: no daemon behind %s\n", server->socket_path);
        return EXIT_NO_DAEMON;
    }
    int status = server_prepare(settings, server);
    return status == 0 ? server_launch(settings, server) : status;
}

/* Ends our own daemon; false if it had to be killed or reported trouble. */
static bool stop_own(struct server *server)
{
    int status = 0;
    kill(server->pid, SIGTERM);
    for (int waited = 0; waited < STOP_MS; waited += STEP_MS) {
        if (waitpid(server->pid, &status, WNOHANG) == server->pid)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        nap();
    }
    kill(server->pid, SIGKILL);
    waitpid(server->pid, &status, 0);
    return false;
}

int server_stop(struct server *server)
{
    static const char *const leftovers[] = {"bench.json", "tuning.json", "log", "trtcolld.lock", "trtcolld.sock", "stats"};
    int result = 0;
    if (server->own && server->pid > 0 && !stop_own(server)) {
        fprintf(stderr, "trtcoll-bench: trtcolld did not end properly\n");
        server_show_log(server);
        result = EXIT_FAILED;
    }
    if (server->directory[0]) {
        char path[192];
        for (size_t i = 0; i < sizeof(leftovers) / sizeof(leftovers[0]); i++) {
            snprintf(path, sizeof(path), "%s/%s", server->directory, leftovers[i]);
            unlink(path);
        }
        rmdir(server->directory);
    }
    *server = (struct server){.pid = -1};
    return result;
}
