#include "comm_crew.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint64_t patience_ns = UINT64_C(30000000000);

static int give_up(struct comm_crew *crew, int code)
{
    if (!crew->code || crew->code == COMM_SKIP)
        crew->code = code;
    return -1;
}

_Noreturn static void live(struct comm_crew *crew, uint32_t rank, int socket, pid_t parent)
{
    comm_board_follow(parent);
    for (size_t i = 0; i < COMM_MOST_PLAYERS; i++)
        if (crew->players[i].pid)
            close(crew->players[i].socket);
    int code = comm_player_main(crew->board, rank, socket);
    fflush(NULL);
    _exit(code);
}

int comm_crew_hire(struct comm_crew *crew, uint32_t rank)
{
    pid_t parent = getpid();
    int pair[2];
    size_t i = 0;
    while (i < COMM_MOST_PLAYERS && crew->players[i].pid)
        i++;
    if (i == COMM_MOST_PLAYERS || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        perror("socketpair");
        return give_up(crew, 1);
    }
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        close(pair[0]);
        live(crew, rank, pair[1], parent);
    }
    close(pair[1]);
    if (pid < 0) {
        perror("fork");
        close(pair[0]);
        return give_up(crew, 1);
    }
    crew->players[i] = (struct comm_player){.pid = pid, .socket = pair[0], .rank = rank};
    return 0;
}

int comm_crew_open(struct comm_crew *crew, struct comm_board *board, uint32_t spares)
{
    *crew = (struct comm_crew){.board = board};
    for (uint32_t i = 0; i <= spares; i++)
        for (uint32_t rank = 0; rank < board->nranks; rank++)
            if (comm_crew_hire(crew, rank))
                return -1;
    return 0;
}

struct comm_player *comm_crew_member(struct comm_crew *crew, uint32_t rank)
{
    for (size_t i = 0; i < COMM_MOST_PLAYERS; i++)
        if (crew->players[i].pid && crew->players[i].member && crew->players[i].rank == rank)
            return &crew->players[i];
    return NULL;
}

/* Waits until the process has ended; false when it takes too long. */
static bool reap(pid_t pid, int *status)
{
    uint64_t end = tcw_now_ns() + patience_ns;
    while (waitpid(pid, status, WNOHANG) != pid) {
        if (tcw_now_ns() > end)
            return false;
        usleep(100);
    }
    return true;
}

static void forget(struct comm_player *player)
{
    close(player->socket);
    player->pid = 0;
}

/* Its socket has hung up although nobody killed it. */
static int lose(struct comm_crew *crew, struct comm_player *player)
{
    int status = 0, code = 1;
    if (!reap(player->pid, &status)) {
        fprintf(stderr, "rank %u: does not end\n", player->rank);
        return give_up(crew, 1);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == COMM_SKIP)
        code = COMM_SKIP;
    else
        fprintf(stderr, "rank %u: %s %d\n", player->rank, WIFSIGNALED(status) ? "signal" : "exit status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    forget(player);
    return give_up(crew, code);
}

static int hear(struct comm_crew *crew, struct comm_player *player)
{
    struct comm_news news;
    ssize_t got = recv(player->socket, &news, sizeof(news), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got != sizeof(news) || news.word >= COMM_WORDS)
        return lose(crew, player);
    player->word = news.word;
    player->news[news.word] = news;
    return 0;
}

int comm_crew_listen(struct comm_crew *crew, int ms)
{
    struct pollfd list[COMM_MOST_PLAYERS];
    struct comm_player *who[COMM_MOST_PLAYERS];
    nfds_t count = 0;
    for (size_t i = 0; i < COMM_MOST_PLAYERS; i++)
        if (crew->players[i].pid) {
            list[count] = (struct pollfd){.fd = crew->players[i].socket, .events = POLLIN};
            who[count++] = &crew->players[i];
        }
    if (poll(list, count, ms) > 0)
        for (nfds_t i = 0; i < count; i++)
            if (list[i].revents)
                hear(crew, who[i]);
    return crew->code ? -1 : 0;
}

static struct comm_player *ready_spare(struct comm_crew *crew, uint32_t rank)
{
    for (size_t i = 0; i < COMM_MOST_PLAYERS; i++) {
        struct comm_player *player = &crew->players[i];
        if (player->pid && !player->member && player->rank == rank && player->word == COMM_WAITING)
            return player;
    }
    return NULL;
}

int comm_crew_cast(struct comm_crew *crew)
{
    uint64_t end = tcw_now_ns() + patience_ns;
    for (uint32_t rank = 0; rank < crew->board->nranks;) {
        struct comm_player *spare = comm_crew_member(crew, rank) ? NULL : ready_spare(crew, rank);
        if (spare)
            spare->member = true;
        if (comm_crew_member(crew, rank)) {
            rank++;
            continue;
        }
        if (comm_crew_listen(crew, 10))
            return -1;
        if (tcw_now_ns() > end) {
            fprintf(stderr, "rank %u: no spare gets ready\n", rank);
            return give_up(crew, 1);
        }
    }
    return 0;
}

int comm_crew_order(struct comm_crew *crew, const struct comm_scene *scene)
{
    for (uint32_t rank = 0; rank < crew->board->nranks; rank++) {
        struct comm_player *member = comm_crew_member(crew, rank);
        member->word = COMM_BUSY;
        if (send(member->socket, scene, sizeof(*scene), MSG_NOSIGNAL) != sizeof(*scene))
            return lose(crew, member);
    }
    return 0;
}

/* A member that has not said the word. */
static struct comm_player *laggard(struct comm_crew *crew, comm_word word, uint32_t except)
{
    for (uint32_t rank = 0; rank < crew->board->nranks; rank++) {
        struct comm_player *member = comm_crew_member(crew, rank);
        if (rank != except && member && member->word < word)
            return member;
    }
    return NULL;
}

int comm_crew_await(struct comm_crew *crew, comm_word word, uint32_t except)
{
    static const char *const missing[COMM_WORDS] = {"", "the open GPU", "the new group", "the first result", "the end of its kernels"};
    uint64_t end = tcw_now_ns() + patience_ns;
    struct comm_player *late;
    while ((late = laggard(crew, word, except))) {
        if (comm_crew_listen(crew, 10))
            return -1;
        if (tcw_now_ns() > end) {
            fprintf(stderr, "rank %u: HANGS before %s\n", late->rank, missing[word]);
            return give_up(crew, 1);
        }
    }
    return 0;
}

void comm_crew_stop(struct comm_crew *crew, uint32_t rank)
{
    kill(comm_crew_member(crew, rank)->pid, SIGSTOP);
}

int comm_crew_kill(struct comm_crew *crew, uint32_t rank)
{
    struct comm_player *member = comm_crew_member(crew, rank);
    int status;
    kill(member->pid, SIGKILL);
    if (!reap(member->pid, &status)) {
        fprintf(stderr, "rank %u: does not end when it is killed\n", rank);
        return give_up(crew, 1);
    }
    forget(member);
    return 0;
}

/* True when it had to be killed, or says that something is wrong. */
static bool dismiss(struct comm_player *player, bool orderly)
{
    int status = 0;
    bool ended = orderly && reap(player->pid, &status);
    if (!ended) {
        kill(player->pid, SIGKILL);
        if (!reap(player->pid, &status))
            fprintf(stderr, "rank %u: does not end when it is killed\n", player->rank);
    }
    forget(player);
    return !ended || !WIFEXITED(status) || WEXITSTATUS(status);
}

void comm_crew_abandon(struct comm_crew *crew)
{
    if (!crew->code)
        crew->code = 1;
}

int comm_crew_close(struct comm_crew *crew)
{
    const struct comm_scene leave = {.leave = true};
    bool orderly = !crew->code;
    for (size_t i = 0; i < COMM_MOST_PLAYERS && orderly; i++)
        if (crew->players[i].pid)
            (void)send(crew->players[i].socket, &leave, sizeof(leave), MSG_NOSIGNAL);
    for (size_t i = 0; i < COMM_MOST_PLAYERS; i++)
        if (crew->players[i].pid && dismiss(&crew->players[i], orderly) && orderly) {
            fprintf(stderr, "rank %u: does not leave as it should\n", crew->players[i].rank);
            give_up(crew, 1);
        }
    return crew->code;
}
