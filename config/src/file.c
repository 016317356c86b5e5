#include "file.h"

#include "issues.h"
#include "syntax.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* At most one byte more than allowed, so that a file that is too long is seen as such. -1 and errno on failure. */
static ssize_t read_bytes(int fd, char *text)
{
    size_t used = 0;
    while (used <= TCF_MAX_FILE_BYTES) {
        ssize_t got = read(fd, text + used, TCF_MAX_FILE_BYTES + 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

struct tcf_document *tcf_document_load(const char *path, struct tcf_issues *issues)
{
    struct tcf_document *document = NULL;
    struct stat status;
    char *text = malloc(TCF_MAX_FILE_BYTES + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never waits, not even for a pipe */
    ssize_t bytes = -1;
    if (!text) {
        tcf_issue_add(issues, path, "", "out of memory");
    } else if (fd < 0 || fstat(fd, &status) != 0) {
        tcf_issue_add(issues, path, "", "cannot be opened: %s", strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        tcf_issue_add(issues, path, "", "found something that is no regular file, allowed a regular file");
    } else if ((bytes = read_bytes(fd, text)) < 0) {
        tcf_issue_add(issues, path, "", "cannot be read: %s", strerror(errno));
    } else {
        document = tcf_document_parse(path, text, (size_t)bytes, issues);
    }
    if (fd >= 0)
        close(fd);
    free(text);
    return document;
}
