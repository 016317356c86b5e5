#include "admin.h"

#include "json.h"
#include "table.h"
#include "text.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <tcw/channel.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ANSWER = 16 << 20 };

struct connection {
    struct tcc_session *session;
    int socket;
    uint64_t deadline_ns;
    uint64_t generation;
    uint32_t sequence;
};

static int left_ms(const struct connection *connection)
{
    uint64_t now = tcw_now_ns();

    return now < connection->deadline_ns ? (int)((connection->deadline_ns - now) / 1000000) + 1 : 0;
}

static tcc_exit too_late(const struct connection *connection)
{
    return tcc_complain(connection->session, TCC_EXIT_UNREACHABLE,
                        "%s: the daemon does not answer within %g s (trtcollctl status shows how it is, --timeout waits longer)",
                        connection->session->socket_path, connection->session->timeout);
}

static tcc_exit connect_socket(struct connection *connection)
{
    struct tcc_session *session = connection->session;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timespec pause = {.tv_nsec = 10000000};

    snprintf(address.sun_path, sizeof address.sun_path, "%s", session->socket_path);
    connection->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (connection->socket < 0)
        return tcc_complain(session, TCC_EXIT_FAILURE, "cannot make a socket: %s", strerror(errno));
    while (connect(connection->socket, (const struct sockaddr *)&address, sizeof address)) {
        /* A full backlog cannot be polled for: a daemon that is stuck, or a crowd that is let in one after the other. */
        if (errno == ENOENT)
            return tcc_complain(session, TCC_EXIT_UNREACHABLE,
                                "%s: no daemon listens here%s (--runtime-dir or --socket says where to look)", session->socket_path,
                                session->elsewhere);
        if (errno != EAGAIN && errno != EINTR)
            return tcc_complain(session, errno == EACCES || errno == EPERM ? TCC_EXIT_FAILURE : TCC_EXIT_UNREACHABLE, "%s: %s",
                                session->socket_path, errno == ECONNREFUSED ? "the daemon that made this socket is gone" : strerror(errno));
        if (!left_ms(connection))
            return too_late(connection);
        nanosleep(&pause, NULL);
    }
    return TCC_EXIT_OK;
}

static tcc_exit lost(const struct connection *connection, int rc, const char *why)
{
    if (rc == TCW_EPROTO)
        return tcc_complain(connection->session, TCC_EXIT_FAILURE, "%s: the daemon's answer is malformed: %s",
                            connection->session->socket_path, why ? why : "unknown reason");
    return tcc_complain(connection->session, TCC_EXIT_UNREACHABLE, "%s: the daemon closed the connection",
                        connection->session->socket_path);
}

static tcc_exit send_message(struct connection *connection, unsigned opcode, const void *payload)
{
    for (;;) {
        int rc = tcw_channel_send(connection->socket, opcode, ++connection->sequence, connection->generation, payload, NULL, 0);
        struct pollfd ready = {.fd = connection->socket, .events = POLLOUT};

        if (!rc)
            return TCC_EXIT_OK;
        if (rc != TCW_EAGAIN)
            return lost(connection, rc, NULL);
        connection->sequence--;
        if (poll(&ready, 1, left_ms(connection)) == 0)
            return too_late(connection);
    }
}

static tcc_exit refused(struct connection *connection, const struct tcw_error *error)
{
    const char *name = tcw_error_name(error->code);

    return tcc_complain(connection->session, TCC_EXIT_FAILURE, "the daemon refuses: %s (%s)",
                        *error->text ? error->text : tcw_error_text(error->code), name ? name : "unknown error");
}

/* The next answer to our question; announcements for clients are skipped. */
static tcc_exit receive(struct connection *connection, struct tcw_packet *packet)
{
    for (;;) {
        struct pollfd ready = {.fd = connection->socket, .events = POLLIN};
        const char *why = NULL;
        int rc = tcw_channel_receive(connection->socket, packet, &why);

        if (rc < 0)
            return lost(connection, rc, why);
        if (!rc) {
            int left = left_ms(connection);

            if (!left || poll(&ready, 1, left) == 0)
                return too_late(connection);
            continue;
        }
        tcw_packet_close_fds(packet); /* nothing that we ask for has descriptors */
        if (packet->header.opcode == TCW_MSG_GOODBYE)
            return refused(connection, &packet->payload.GOODBYE);
        if (packet->header.sequence != connection->sequence)
            continue;
        if (packet->header.opcode == TCW_MSG_ERROR)
            return refused(connection, &packet->payload.ERROR);
        return TCC_EXIT_OK;
    }
}

static tcc_exit greet(struct connection *connection, struct tcw_packet *packet)
{
    struct tcw_hello hello = {.abi_min = TCW_ABI_MIN, .abi_max = TCW_ABI_MAX, .device = -1, .role = 1};
    tcc_exit code;

    tcw_text_set(hello.name, sizeof hello.name, "trtcollctl");
    code = send_message(connection, TCW_MSG_HELLO, &hello);
    if (!code)
        code = receive(connection, packet);
    if (code)
        return code;
    if (packet->header.opcode != TCW_MSG_HELLO_OK)
        return lost(connection, TCW_EPROTO, "no hello came back");
    connection->generation = packet->payload.HELLO_OK.generation;
    return TCC_EXIT_OK;
}

/* Joins the parts of the answer. */
static tcc_exit collect(struct connection *connection, struct tcw_packet *packet, struct tcc_answer *answer)
{
    const struct tcw_admin_text *part = &packet->payload.ADMIN_TEXT;
    size_t used = 0;

    do {
        tcc_exit code = receive(connection, packet);

        if (code)
            return code;
        if (packet->header.opcode != TCW_MSG_ADMIN_TEXT || part->bytes > sizeof part->text || used + part->bytes > MAX_ANSWER)
            return lost(connection, TCW_EPROTO, "not an answer to a command");
        answer->text = tcc_must(realloc(answer->text, used + part->bytes + 1));
        memcpy(answer->text + used, part->text, part->bytes);
        used += strnlen(part->text, part->bytes); /* a counted terminator is no part of the text */
        answer->text[used] = 0;
        answer->code = part->code;
    } while (part->more);
    return TCC_EXIT_OK;
}

tcc_exit tcc_admin_ask(struct tcc_session *session, const struct tcw_admin *question, struct tcc_answer *answer)
{
    struct connection connection = {.session = session, .socket = -1, .deadline_ns = tcw_now_ns() + (uint64_t)(session->timeout * 1e9)};
    struct tcw_packet *packet = tcc_must(malloc(sizeof *packet));
    tcc_exit code;

    *answer = (struct tcc_answer){0};
    code = connect_socket(&connection);
    if (!code)
        code = greet(&connection, packet);
    if (!code)
        code = send_message(&connection, TCW_MSG_ADMIN, question);
    if (!code)
        code = collect(&connection, packet, answer);
    if (connection.socket >= 0)
        close(connection.socket);
    free(packet);
    if (code)
        tcc_answer_free(answer);
    else
        answer->json = cJSON_Parse(answer->text);
    return code;
}

void tcc_answer_free(struct tcc_answer *answer)
{
    free(answer->text);
    cJSON_Delete(answer->json);
    *answer = (struct tcc_answer){0};
}

/* The reason inside a refusal: a member "error", "text" or "reason" of JSON, or the text itself. */
static const char *reason_of(const struct tcc_answer *answer)
{
    static const char *const names[] = {"error", "reason", "text", "message"};

    for (size_t i = 0; answer->json && i < sizeof names / sizeof names[0]; i++) {
        const cJSON *member = cJSON_GetObjectItemCaseSensitive(answer->json, names[i]);

        if (cJSON_IsString(member))
            return member->valuestring;
    }
    return *answer->text ? answer->text : tcw_error_text(answer->code);
}

/* A refused configuration says everything that is wrong with it, like trtcolld --check-config. */
static void print_issues(const struct tcc_session *session, const cJSON *issues)
{
    for (const cJSON *issue = cJSON_IsArray(issues) ? issues->child : NULL; issue; issue = issue->next) {
        static const char *const names[] = {"file", "pointer", "text"};

        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            const cJSON *part = cJSON_GetObjectItemCaseSensitive(issue, names[i]);
            char text[600];

            snprintf(text, sizeof text, "%s", cJSON_IsString(part) ? part->valuestring : "");
            tcc_text_clean(text, !session->out.utf8);
            fprintf(stderr, "%s%s", i && *text ? ": " : "", text);
        }
        fputc('\n', stderr);
    }
}

tcc_exit tcc_answer_check(struct tcc_session *session, const struct tcc_answer *answer)
{
    const char *name = tcw_error_name(answer->code);

    if (!answer->code)
        return TCC_EXIT_OK;
    print_issues(session, cJSON_GetObjectItemCaseSensitive(answer->json, "issues"));
    session->refusal = answer->json;
    tcc_complain(session, TCC_EXIT_FAILURE, "%s: %s (%s)", session->command->name, reason_of(answer), name ? name : "unknown error");
    session->refusal = NULL;
    return TCC_EXIT_FAILURE;
}

void tcc_answer_json(struct tcc_session *session, const struct tcc_answer *answer)
{
    cJSON *document = tcc_json_begin(session->command->name, NULL);

    tcc_json_bool(document, "ok", answer->code == 0);
    if (answer->json)
        cJSON_AddItemToObject(document, "answer", tcc_must(cJSON_Duplicate(answer->json, true)));
    else
        tcc_json_text(document, "answer", answer->text);
    tcc_json_end(document, session->out.file, session->compact);
}
