#include "reader.h"

#include "issues.h"
#include "option.h"
#include "words.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

/* ---- small parts ---- */

const struct tcf_value *tcf_read_member(const struct tcf_value *object, const char *key, struct tcf_issues *issues)
{
    const struct tcf_value *member = tcf_value_member(object, key);
    if (!member) {
        char pointer[256];
        tcf_value_pointer(object, pointer, sizeof(pointer));
        tcf_issue_add(issues, tcf_document_file(object->document), pointer, "found no \"%s\", which must be there", key);
    }
    return member;
}

bool tcf_read_name(const struct tcf_value *owner, const struct tcf_value *value, char *out, struct tcf_issues *issues)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/-";
    if (!value && !(value = tcf_read_member(owner, "name", issues)))
        return false;
    size_t length = value->kind == TCF_TEXT ? strlen(value->text) : 0;
    if (length == 0 || length >= TCW_NAME_BYTES || strspn(value->text, letters) != length) {
        tcf_value_reject(value, issues, "a name of 1 to %d of the characters A-Z a-z 0-9 . _ : / -", TCW_NAME_BYTES - 1);
        return false;
    }
    memcpy(out, value->text, length + 1);
    return true;
}

/* ---- access ---- */

static bool lookup_id(const char *name, bool group, uint32_t *id)
{
    if (group) {
        const struct group *entry = getgrnam(name);
        if (entry)
            *id = entry->gr_gid;
        return entry != NULL;
    }
    const struct passwd *entry = getpwnam(name);
    if (entry)
        *id = entry->pw_uid;
    return entry != NULL;
}

static bool read_id(const struct tcf_value *value, bool group, uint32_t *id, struct tcf_issues *issues)
{
    if (value->kind == TCF_TEXT) {
        if (lookup_id(value->text, group, id))
            return true;
        tcf_value_reject(value, issues, "a %s that this machine knows, or a number", group ? "group" : "user");
        return false;
    }
    uint64_t number;
    if (!tcf_read_integer(value, 0, UINT32_MAX - 1, group ? "or the name of a group" : "or the name of a user", &number, issues))
        return false;
    *id = (uint32_t)number;
    return true;
}

static uint32_t read_ids(const struct tcf_value *list, bool group, uint32_t ids[TCF_MAX_UIDS], struct tcf_issues *issues)
{
    if (!list)
        return 0;
    uint32_t count = list->kind == TCF_ARRAY ? tcf_value_count(list) : 0;
    if (list->kind != TCF_ARRAY || count > TCF_MAX_UIDS) {
        tcf_value_reject(list, issues, "an array of at most %d", TCF_MAX_UIDS);
        return 0;
    }
    count = 0;
    for (const struct tcf_value *value = list->first; value; value = value->next) {
        if (read_id(value, group, &ids[count], issues))
            count++;
    }
    return count;
}

void tcf_access_read(const struct tcf_value *value, struct tcf_access *access, struct tcf_issues *issues)
{
    if (!value || !tcf_keys_check(value, "uids|gids", issues))
        return;
    access->uid_count = read_ids(tcf_value_member(value, "uids"), false, access->uids, issues);
    access->gid_count = read_ids(tcf_value_member(value, "gids"), true, access->gids, issues);
}

void tcf_read_access(const struct tcf_reader *reader)
{
    tcf_access_read(tcf_value_member(reader->root, "access"), &reader->config->access, reader->issues);
    tcf_access_read(tcf_value_member(reader->root, "admin"), &reader->config->admin, reader->issues);
}

/* ---- scalars ---- */

/* What may stand in the root beside options. "$schema" lets editors help; it is not read. */
static const char *const structure[] = {"$schema", "access", "admin", "devices", "groups", "nodes"};

/* The part of `path` behind "prefix." (or all of it for the empty prefix), NULL if it does not lie there. */
static const char *below(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);
    if (length == 0)
        return path;
    return strncmp(path, prefix, length) == 0 && path[length] == '.' ? path + length + 1 : NULL;
}

static void known_keys(const char *prefix, struct tcf_words *known)
{
    for (size_t i = 0; i < sizeof(structure) / sizeof(structure[0]) && !prefix[0]; i++)
        tcf_words_add(known, structure[i], strlen(structure[i]));
    for (size_t i = 0; i < tcf_option_count; i++) {
        const char *rest = below(tcf_option_table[i].path, prefix);
        if (rest)
            tcf_words_add(known, rest, strcspn(rest, "."));
    }
}

static bool is_structure(const char *prefix, const char *key)
{
    for (size_t i = 0; i < sizeof(structure) / sizeof(structure[0]) && !prefix[0]; i++) {
        if (strcmp(key, structure[i]) == 0)
            return true;
    }
    return false;
}

static const struct tcf_option *find_option(const char *path)
{
    for (size_t i = 0; i < tcf_option_count; i++) {
        if (strcmp(tcf_option_table[i].path, path) == 0)
            return &tcf_option_table[i];
    }
    return NULL;
}

static void read_options_below(const struct tcf_reader *reader, const struct tcf_value *object, const char *prefix)
{
    if (object->kind != TCF_OBJECT) {
        tcf_value_reject(object, reader->issues, "an object");
        return;
    }
    struct tcf_words known = {.count = 0};
    known_keys(prefix, &known);
    for (const struct tcf_value *member = object->first; member; member = member->next) {
        char path[TCF_MAX_WORD_BYTES * 2];
        if (!tcf_words_have(&known, member->key)) {
            tcf_key_reject(member, &known, reader->issues);
            continue;
        }
        if (is_structure(prefix, member->key))
            continue;
        snprintf(path, sizeof(path), "%s%s%s", prefix, prefix[0] ? "." : "", member->key);
        const struct tcf_option *option = find_option(path);
        if (option)
            tcf_option_read(option, member, &reader->config->options, reader->issues);
        else
            read_options_below(reader, member, path);
    }
}

void tcf_read_options(const struct tcf_reader *reader)
{
    for (size_t i = 0; i < tcf_option_count; i++)
        tcf_option_set_default(&tcf_option_table[i], &reader->config->options);
    read_options_below(reader, reader->root, "");
}

/* ---- what concerns more than one value ---- */

static void reject_member(const struct tcf_reader *reader, const char *path, const char *allowed)
{
    const struct tcf_value *value = tcf_value_at(reader->root, path);
    if (value)
        tcf_value_reject(value, reader->issues, "%s", allowed);
}

/* All clients of a uid together may not be allowed less than one of them. */
static void check_quota(const struct tcf_reader *reader, const char *name)
{
    char uid_path[64], client_path[64], text[160];
    snprintf(uid_path, sizeof(uid_path), "limits.uid.%s", name);
    snprintf(client_path, sizeof(client_path), "limits.client.%s", name);
    uint64_t uid = tcf_option_number(find_option(uid_path), &reader->config->options);
    uint64_t client = tcf_option_number(find_option(client_path), &reader->config->options);
    if (uid >= client)
        return;
    if (tcf_value_at(reader->root, uid_path)) {
        snprintf(text, sizeof(text), "at least %s, which is %llu", client_path, (unsigned long long)client);
        reject_member(reader, uid_path, text);
    } else {
        snprintf(text, sizeof(text), "at most %s, which is %llu", uid_path, (unsigned long long)uid);
        reject_member(reader, client_path, text);
    }
}

static void check_runtime_dir(const struct tcf_reader *reader)
{
    /* sun_path holds 108 bytes with its NUL. */
    enum { LONGEST = 108 - sizeof("/trtcolld.sock") };
    const char *path = reader->config->options.runtime_dir;
    if (path[0] && path[0] != '/')
        reject_member(reader, "runtime_dir", "an absolute path, or \"\"");
    else if (strlen(path) > LONGEST)
        reject_member(reader, "runtime_dir", "a path of at most 93 bytes, because a socket's path has at most 107");
    _Static_assert(LONGEST == 93, "as the message says");
}

void tcf_check_consistency(const struct tcf_reader *reader)
{
    static const char *const quotas[] = {"bytes", "plans", "groups", "in_flight"};
    for (size_t i = 0; i < sizeof(quotas) / sizeof(quotas[0]); i++)
        check_quota(reader, quotas[i]);
    check_runtime_dir(reader);
    uint32_t gid;
    const char *group = reader->config->options.socket_group;
    if (group[0] && !lookup_id(group, true, &gid))
        reject_member(reader, "socket_group", "a group that this machine knows, or \"\"");
    if (reader->config->options.tuning[0] && reader->config->options.tuning[0] != '/')
        tcf_value_reject(tcf_value_at(reader->root, "choosing.tuning"), reader->issues, "an absolute path, or \"\"");
}
