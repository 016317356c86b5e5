/*
 * A JSON document as a tree whose nodes know where they came from, so that a complaint about a merged configuration names the file and the
 * place in that file. cJSON stays behind this header.
 *
 * Owner: whoever called tcf_document_parse; tcf_document_free frees all its nodes. A node moved by tcf_value_merge still belongs to its
 * document: free the documents together, when the merged tree is no longer needed. Threads: one.
 */
#ifndef TCF_SRC_VALUE_H
#define TCF_SRC_VALUE_H

#include <tcf/config.h>

typedef enum tcf_kind { TCF_NULL, TCF_TRUTH, TCF_NUMBER, TCF_TEXT, TCF_ARRAY, TCF_OBJECT } tcf_kind;

struct tcf_document;

struct tcf_value {
    const struct tcf_document *document; /* where it came from */
    const struct tcf_value *parent;      /* in that document, whatever was merged since; NULL: the root */
    uint32_t index;                      /* in that parent, if it is an array */
    tcf_kind kind;
    const char *key;                /* in that parent, if it is an object; else NULL */
    const char *text;               /* TEXT */
    double number;                  /* NUMBER */
    bool truth;                     /* TRUTH */
    struct tcf_value *first, *next; /* children, siblings: as merged */
};

struct tcf_document *tcf_document_parse(const char *file, const char *text, size_t bytes, struct tcf_issues *issues);
void tcf_document_free(struct tcf_document *document);
struct tcf_value *tcf_document_root(struct tcf_document *document);
const char *tcf_document_file(const struct tcf_document *document);

/*
 * Lays `over` over `base`; both must be objects and the roots of their documents. Objects merge member by member; the arrays `groups` and
 * `nodes` of the root merge by the `name` of their entries, which then merge as objects; everything else of `over`, and `devices` in
 * any form, replaces.
 */
void tcf_value_merge(struct tcf_value *base, struct tcf_value *over);

/* A member of an object, NULL if there is none (or `object` is none). */
struct tcf_value *tcf_value_member(const struct tcf_value *object, const char *key);
/* The same along a dotted path: "limits.client.bytes". */
struct tcf_value *tcf_value_at(const struct tcf_value *object, const char *path);
uint32_t tcf_value_count(const struct tcf_value *container);

/* RFC 6901, in the document it came from. */
void tcf_value_pointer(const struct tcf_value *value, char *out, size_t size);
/* How a complaint calls it: 12, "text" (cut if long), true, null, an array, an object. */
void tcf_value_describe(const struct tcf_value *value, char *out, size_t size);
/* A complaint about `value`, "found WHAT, allowed ..."; the format is for what is allowed. */
__attribute__((format(printf, 3, 4))) void tcf_value_reject(const struct tcf_value *value, struct tcf_issues *issues, const char *format,
                                                            ...);

#endif
