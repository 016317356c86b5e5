/*
 * trtcollctl: shows and controls the node's daemon. Parses the command line, finds the runtime directory and runs one command.
 */
#include "command.h"
#include "screen.h"
#include "text.h"

#include <tcw/places.h>

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GLOBAL_RUNTIME_DIR,
    GLOBAL_SOCKET,
    GLOBAL_JSON,
    GLOBAL_WATCH,
    GLOBAL_TIMEOUT,
    GLOBAL_NO_COLOR,
    GLOBAL_HELP,
    GLOBAL_VERSION,
    GLOBALS
};

static const struct tcc_option globals[] = {
    [GLOBAL_RUNTIME_DIR] = {"runtime-dir", "DIR", "where the daemon's socket and stats are", 'r'},
    [GLOBAL_SOCKET] = {"socket", "PATH", "the daemon's socket; stats are looked for beside it", 's'},
    [GLOBAL_JSON] = {"json", NULL, "JSON for programs, raw units, \"schema_version\": 1", 'j'},
    [GLOBAL_WATCH] = {"watch", "SECONDS", "repeat a looking command; q or Ctrl-C ends", 'w'},
    [GLOBAL_TIMEOUT] = {"timeout", "SECONDS", "how long the daemon may take to answer (default 5)", 't'},
    [GLOBAL_NO_COLOR] = {"no-color", NULL, "no colour (also: NO_COLOR set, or not a terminal)", 0},
    [GLOBAL_HELP] = {"help", NULL, "this text; behind a command, about that command", 'h'},
    [GLOBAL_VERSION] = {"version", NULL, "the version of this tool", 'V'},
    [GLOBALS] = {0},
};

struct request {
    const char *global[GLOBALS];
    struct tcc_session session;
};

/* getopt's tables, made from ours: globals first, then the command's. */
struct parser {
    struct option longs[GLOBALS + TCC_MAX_OPTIONS + 1];
    char letters[2 * (GLOBALS + TCC_MAX_OPTIONS) + 3];
    int count;
};

static void parser_add(struct parser *parser, const struct tcc_option *options)
{
    for (; options && options->name; options++) {
        size_t used = strlen(parser->letters);

        parser->longs[parser->count] =
            (struct option){options->name, options->value ? required_argument : no_argument, NULL, 256 + parser->count};
        parser->count++;
        if (options->letter)
            snprintf(parser->letters + used, sizeof parser->letters - used, "%c%s", options->letter, options->value ? ":" : "");
    }
}

/* Position of a parsed option, counted over globals and then the command's options. */
static int position(const struct tcc_option *options, int found)
{
    if (found >= 256)
        return found - 256;
    for (int i = 0; i < GLOBALS; i++) {
        if (globals[i].letter == found)
            return i;
    }
    for (int i = 0; options && options[i].name; i++) {
        if (options[i].letter == found)
            return GLOBALS + i;
    }
    return -1;
}

/*
 * Reads the options behind argv[0] and leaves optind at the first argument. `mode`: "+:" stops there, ":" finds options between and behind
 * arguments too. False after a complaint.
 */
static bool parse(struct request *request, int argc, char **argv, const struct tcc_option *options, const char *mode)
{
    struct parser parser = {.letters = ""};
    int found;

    snprintf(parser.letters, sizeof parser.letters, "%s", mode);
    parser_add(&parser, globals);
    parser_add(&parser, options);
    optind = 0; /* a fresh start: the mode changes between the passes */
    opterr = 0;
    while ((found = getopt_long(argc, argv, parser.letters, parser.longs, NULL)) != -1) {
        int at = position(options, found);

        if (at < 0) {
            tcc_misuse(&request->session, "%s \"%s\"", found == ':' ? "a value must follow" : "unknown or misused option",
                       argv[optind - 1]);
            return false;
        }
        if (at < GLOBALS)
            request->global[at] = optarg ? optarg : "";
        else
            request->session.options[at - GLOBALS] = optarg ? optarg : "";
    }
    return true;
}

static bool exists(const char *folder, const char *name)
{
    char path[256];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);

    return length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0;
}

/* The first place of the library's rule that has a socket, or else the state that a daemon has left. */
static const char *find_daemon(struct tcc_session *session, struct tcw_place places[TCW_MAX_PLACES])
{
    static const char *const traces[] = {TCW_SOCKET_NAME, TCW_STATS_NAME};
    unsigned count = tcw_places_list(places, geteuid());

    for (unsigned t = 0; t < sizeof traces / sizeof traces[0]; t++) {
        for (unsigned i = 0; i < count; i++) {
            if (exists(places[i].folder, traces[t]))
                return places[i].folder;
        }
    }
    for (unsigned i = 1; i < count; i++)
        snprintf(session->elsewhere + strlen(session->elsewhere), sizeof session->elsewhere - strlen(session->elsewhere), ", nor in %s",
                 places[i].folder);
    return places[0].folder;
}

static bool set_paths(struct request *request)
{
    struct tcc_session *session = &request->session;
    const char *dir = request->global[GLOBAL_RUNTIME_DIR];
    const char *socket = request->global[GLOBAL_SOCKET];
    struct tcw_place places[TCW_MAX_PLACES];
    char buffer[256];
    int length;

    if (!dir && !socket)
        socket = getenv("TRTCOLL_SOCKET");
    if (socket && !*socket)
        socket = NULL;
    if (!dir && socket) {
        const char *slash = strrchr(socket, '/');

        snprintf(buffer, sizeof buffer, "%.*s", slash ? (int)(slash - socket + (slash == socket)) : 1, slash ? socket : ".");
        dir = buffer;
    }
    if (!dir)
        dir = find_daemon(session, places);
    length = snprintf(session->stats_path, sizeof session->stats_path, "%s/" TCW_STATS_NAME, dir);
    if (length < 0 || (size_t)length >= sizeof session->stats_path)
        return false;
    length = socket ? snprintf(session->socket_path, sizeof session->socket_path, "%s", socket)
                    : snprintf(session->socket_path, sizeof session->socket_path, "%s/" TCW_SOCKET_NAME, dir);
    return length > 0 && (size_t)length < sizeof session->socket_path;
}

static tcc_exit set_globals(struct request *request)
{
    struct tcc_session *session = &request->session;
    const char *watch = request->global[GLOBAL_WATCH];
    const char *timeout = request->global[GLOBAL_TIMEOUT];

    session->json = request->global[GLOBAL_JSON];
    tcc_out_init(&session->out, stdout, request->global[GLOBAL_NO_COLOR]);
    session->timeout = 5;
    if (watch && !tcc_parse_seconds(watch, &session->interval))
        return tcc_misuse(session, "--watch: found \"%s\", allowed: seconds above 0, at most 86400", watch);
    if (timeout && !tcc_parse_seconds(timeout, &session->timeout))
        return tcc_misuse(session, "--timeout: found \"%s\", allowed: seconds above 0, at most 86400", timeout);
    if (!set_paths(request))
        return tcc_misuse(session, "the path of the socket or the runtime directory is too long");
    if (watch && session->command->asks)
        return tcc_misuse(session, "%s cannot be repeated with --watch", session->command->name);
    session->compact = watch;
    return TCC_EXIT_OK;
}

/* The command and its arguments into the session. TCC_EXIT_OK: run it; else the exit code, everything being said. */
static tcc_exit take_arguments(struct request *request, int argc, char **argv)
{
    struct tcc_session *session = &request->session;
    const struct tcc_command *command = session->command;

    while (optind < argc) {
        if (session->argument_count == command->max_arguments)
            return tcc_misuse(session, "%s: unexpected argument \"%s\"", command->name, argv[optind]);
        session->arguments[session->argument_count++] = argv[optind++];
    }
    if (session->argument_count < command->min_arguments)
        return tcc_misuse(session, "%s needs %s", command->name, command->arguments);
    return TCC_EXIT_OK;
}

static bool wants_json(char **argv)
{
    for (; *argv; argv++) {
        if (strcmp(*argv, "--json") == 0 || strcmp(*argv, "-j") == 0)
            return true;
    }
    return false;
}

static tcc_exit finish(tcc_exit code)
{
    /* A full disk must not look like success; a reader that has seen enough (head) is none of our business. */
    if ((fflush(stdout) || ferror(stdout)) && errno != EPIPE) {
        fprintf(stderr, "trtcollctl: cannot write the output: %s\n", strerror(errno));
        return TCC_EXIT_FAILURE;
    }
    return code;
}

int main(int argc, char **argv)
{
    struct request request = {0};
    struct tcc_session *session = &request.session;
    tcc_exit code;

    setlocale(LC_CTYPE, "");
    session->json = wants_json(argv); /* until the options are parsed: complaints about them are JSON too */
    tcc_out_init(&session->out, stdout, false);
    if (!parse(&request, argc, argv, NULL, "+:"))
        return finish(TCC_EXIT_USAGE);
    if (optind < argc && !request.global[GLOBAL_HELP] && !request.global[GLOBAL_VERSION]) {
        const char *name = argv[optind];

        argc -= optind; /* the command takes the place of the program's name */
        argv += optind;
        optind = 1;
        session->command = tcc_command_find(name);
        if (!session->command && strcmp(name, "help") == 0) {
            request.global[GLOBAL_HELP] = "";
            session->command = optind < argc ? tcc_command_find(argv[optind]) : NULL;
        } else if (!session->command) {
            return finish(tcc_misuse(session, "unknown command \"%s\"", name));
        } else if (!parse(&request, argc, argv, session->command->options, ":")) {
            return finish(TCC_EXIT_USAGE);
        }
    }
    if (request.global[GLOBAL_VERSION]) {
        puts("trtcollctl " TCC_VERSION);
        return finish(TCC_EXIT_OK);
    }
    if (request.global[GLOBAL_HELP]) {
        if (session->command)
            tcc_command_usage_print(stdout, session->command, globals);
        else
            tcc_usage_print(stdout, globals);
        return finish(TCC_EXIT_OK);
    }
    if (!session->command) {
        tcc_usage_print(stderr, globals);
        return TCC_EXIT_USAGE;
    }
    code = set_globals(&request);
    if (!code)
        code = take_arguments(&request, argc, argv);
    if (!code)
        code = session->interval > 0 && !session->command->repeats_itself ? tcc_repeat(session, session->command->run)
                                                                          : session->command->run(session);
    return finish(code);
}
