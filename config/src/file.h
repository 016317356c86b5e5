/*
 * Reading a JSON document from a file. Owner: the caller, as of tcf_document_parse. Threads: one.
 */
#ifndef TCF_SRC_FILE_H
#define TCF_SRC_FILE_H

#include "value.h"

/* NULL and complaints when it cannot be read or is no JSON. Only regular files of at most TCF_MAX_FILE_BYTES. */
struct tcf_document *tcf_document_load(const char *path, struct tcf_issues *issues);

#endif
