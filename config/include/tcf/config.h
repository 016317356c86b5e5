/*
 * The configuration: parsed from one JSON file plus an optional conf.d directory, validated whole, then immutable.
 * Owner: whoever parsed it; free with tcf_config_free. Threads: read-only after parsing, any.
 */
#ifndef TCF_CONFIG_H
#define TCF_CONFIG_H

#include <tcw/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    TCF_MAX_DEVICES = 64, /* of one node; device numbers are below it */
    TCF_MAX_NODES = 64,
    TCF_MAX_GROUPS = 256,
    TCF_MAX_UIDS = 64,
    TCF_MAX_HOST_RANKS = 16, /* ranks of a group that has host devices */
};

typedef enum tcf_device_kind { TCF_DEVICE_HOST = 0, TCF_DEVICE_CUDA = 1 } tcf_device_kind;

struct tcf_device {
    uint32_t number; /* what groups and clients name; unique on the node */
    tcf_device_kind kind;
    char uuid[TCW_NAME_BYTES]; /* cuda: which GPU; may be empty */
};

struct tcf_node {
    char name[TCW_NAME_BYTES];
    char address[TCW_NAME_BYTES]; /* host:port of its mesh endpoint; may be empty on a single node */
    uint32_t device_count;
    struct tcf_device devices[TCF_MAX_DEVICES];
};

/* Who may attach or join: everybody if all lists are empty. */
struct tcf_access {
    uint32_t uid_count, gid_count;
    uint32_t uids[TCF_MAX_UIDS];
    uint32_t gids[TCF_MAX_UIDS];
};

struct tcf_rank {
    uint32_t node;   /* index into nodes */
    uint32_t device; /* device number on that node */
};

struct tcf_group {
    char name[TCW_NAME_BYTES];
    uint32_t size;
    struct tcf_rank ranks[TCW_MAX_RANKS];
    struct tcf_access access;
    uint64_t deadline_ns;  /* 0: the default */
    tcw_lane lane;         /* AUTO: chosen per plan */
    tcw_strategy strategy; /* AUTO: chosen per plan */
};

struct tcf_tuning;

/* Scalars. Each is declared once in tcf/options.def: JSON path, type, range, default, unit, reloadable, help. */
struct tcf_options {
#define TCF_U64(member, path, min, max, def, unit, reload, help)    uint64_t member;
#define TCF_POWER(member, path, min, max, def, unit, reload, help)  uint64_t member;
#define TCF_MODE(member, path, def, reload, help)                   uint64_t member;
#define TCF_BOOL(member, path, def, reload, help)                   bool member;
#define TCF_STRING(member, path, bytes, def, reload, help)          char member[bytes];
#define TCF_CHOICE(member, path, bytes, choices, def, reload, help) char member[bytes];
#include <tcf/options.def>
#undef TCF_U64
#undef TCF_POWER
#undef TCF_MODE
#undef TCF_BOOL
#undef TCF_STRING
#undef TCF_CHOICE
};

struct tcf_config {
    struct tcf_options options;
    struct tcf_access access; /* who may attach at all */
    struct tcf_access admin;  /* who may drain, reload, kick; root and the daemon's uid always may */
    uint32_t local_node;      /* index of this machine: options.node, else the host name, else the only node */
    uint32_t node_count;
    struct tcf_node nodes[TCF_MAX_NODES];
    uint32_t group_count;
    struct tcf_group *groups;
    struct tcf_tuning *tuning; /* tcf/tuning.h; NULL: the built-in tables */
};

/* One complaint: file, JSON pointer, what was found and what is allowed. */
struct tcf_issue {
    char file[256];
    char pointer[256];
    char text[512];
};

struct tcf_issues {
    struct tcf_issue *items;
    uint32_t count, capacity;
};
void tcf_issues_free(struct tcf_issues *issues);
void tcf_issues_print(const struct tcf_issues *issues, FILE *to); /* "FILE: /groups/0/size: found 0, allowed 1 to 64" */

/*
 * Reads `path` and, if it exists, every *.json of the directory `path` + ".d" in name order, merged over it. NULL and *issues filled when
 * anything is wrong: every error is reported, not only the first. A file that cannot be read is an issue too.
 */
struct tcf_config *tcf_config_load(const char *path, struct tcf_issues *issues);
/* The same for text in memory, under the name `file`; for tests and fuzzing. Does not read the file that choosing.tuning names. */
struct tcf_config *tcf_config_parse(const char *file, const char *text, size_t bytes, struct tcf_issues *issues);
void tcf_config_free(struct tcf_config *config);

/*
 * What a reload from `now` to `next` would change. Each difference is reported through `report`: the JSON pointer, both values as text, and
 * whether it can be applied while running (new, changed or removed groups without members can; of any other group that is in both, the
 * deadline, which then is a difference of its own; options say so in options.def; devices, nodes and the runtime directory cannot). Nodes
 * come before groups. Returns the number of differences that cannot be applied.
 * `group_in_use` tells whether a group has members now; may be NULL.
 */
typedef void (*tcf_difference)(void *arg, const char *pointer, const char *from, const char *to, bool applicable);
unsigned tcf_config_diff(const struct tcf_config *now, const struct tcf_config *next, bool (*group_in_use)(void *arg, const char *name),
                         tcf_difference report, void *arg);

/* The effective configuration as JSON text (malloc'ed), for `trtcollctl config`. */
char *tcf_config_print(const struct tcf_config *config);

const struct tcf_group *tcf_config_group(const struct tcf_config *config, const char *name);
const struct tcf_device *tcf_config_device(const struct tcf_config *config, uint32_t number); /* on the local node */

#endif
