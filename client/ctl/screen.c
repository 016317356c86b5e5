#include "screen.h"

#include "table.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* One repetition at a time: signal handlers have no argument to find it by. */
static volatile sig_atomic_t interrupted;
static volatile sig_atomic_t resized;
static bool reads_keys; /* the terminal delivers single keys now */

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        interrupted = 1;
}

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
enum { CAUGHT = sizeof caught / sizeof caught[0] };

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* A key: q, Q, Escape and end of input end the repetition, others redraw at once. */
static bool handle_key(void)
{
    char key;
    ssize_t got = read(STDIN_FILENO, &key, 1);

    if (got < 0 && errno == EINTR)
        return true;
    return got == 1 && key != 'q' && key != 'Q' && key != 27 && key != 3;
}

bool tcc_screen_wait(double seconds)
{
    double end = now() + seconds;
    sigset_t blocked, usual;
    bool go_on = true;

    /* Blocked except inside ppoll, so a signal between the test and the wait is not slept over. */
    sigemptyset(&blocked);
    for (size_t i = 0; i < CAUGHT; i++)
        sigaddset(&blocked, caught[i]);
    sigprocmask(SIG_BLOCK, &blocked, &usual);
    while (!interrupted && !resized) {
        struct pollfd keyboard = {.fd = reads_keys ? STDIN_FILENO : -1, .events = POLLIN};
        double left = end - now();
        struct timespec time = {(time_t)left, (long)((left - floor(left)) * 1e9)};

        if (left <= 0)
            break;
        if (ppoll(&keyboard, 1, &time, &usual) > 0) {
            go_on = handle_key();
            break;
        }
    }
    sigprocmask(SIG_SETMASK, &usual, NULL);
    resized = 0;
    return go_on && !interrupted;
}

/* Cuts a frame to the height of the terminal: the top is the important part. */
static void draw(struct tcc_out *out, char *frame)
{
    struct winsize size = {.ws_row = 24};
    char *at = frame;

    ioctl(fileno(out->file), TIOCGWINSZ, &size);
    for (unsigned row = 1; row < size.ws_row; row++) {
        char *end = strchr(at, '\n');

        if (!end)
            break;
        at = end + 1;
    }
    *at = 0;
    fputs("\033[H", out->file);
    /* Clear behind each line instead of clearing the screen first: no flicker. */
    for (at = frame; *at;) {
        size_t length = strcspn(at, "\n");

        fwrite(at, 1, length, out->file);
        fputs("\033[K", out->file);
        at += length;
        if (*at)
            fputs("\r\n", out->file), at++;
    }
    fputs("\033[J", out->file);
    fflush(out->file);
}

static tcc_exit render(struct tcc_session *session, tcc_exit (*frame)(struct tcc_session *), bool screen, unsigned long number)
{
    FILE *real = session->out.file;
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = tcc_must(open_memstream(&text, &bytes));
    tcc_exit code;

    session->out.file = memory;
    code = frame(session);
    fclose(memory);
    session->out.file = real;
    if (screen) {
        draw(&session->out, text);
    } else {
        if (number && !session->json)
            fputc('\n', real);
        fwrite(text, 1, bytes, real);
        fflush(real);
    }
    free(text);
    return code;
}

tcc_exit tcc_repeat(struct tcc_session *session, tcc_exit (*frame)(struct tcc_session *session))
{
    bool screen = session->out.terminal && !session->json && !session->batch;
    struct sigaction action = {.sa_handler = on_signal}, before[CAUGHT];
    struct termios terminal, raw;
    tcc_exit code = TCC_EXIT_OK;

    interrupted = 0;
    for (size_t i = 0; i < CAUGHT; i++)
        sigaction(caught[i], &action, &before[i]);
    reads_keys = screen && tcgetattr(STDIN_FILENO, &terminal) == 0;
    if (reads_keys) {
        raw = terminal;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    if (screen) /* alternate screen, no cursor, no wrapping of long lines */
        fputs("\033[?1049h\033[?25l\033[?7l\033[2J", session->out.file);

    for (unsigned long number = 0;; number++) {
        struct winsize size;

        if (screen && ioctl(fileno(session->out.file), TIOCGWINSZ, &size) == 0 && size.ws_col)
            session->out.width = size.ws_col;
        code = render(session, frame, screen, number);
        if (ferror(session->out.file) || interrupted || (session->frames && number + 1 >= session->frames) ||
            !tcc_screen_wait(session->interval))
            break;
    }

    if (screen) {
        fputs("\033[?7h\033[?25h\033[?1049l", session->out.file);
        fflush(session->out.file);
    }
    if (reads_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
    reads_keys = false;
    for (size_t i = 0; i < CAUGHT; i++)
        sigaction(caught[i], &before[i], NULL);
    return code;
}
