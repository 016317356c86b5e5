/*
 * One question to the daemon over its socket, as an operator's tool: hello, ADMIN, the answer's parts, good-bye. Every wait ends by the
 * session's timeout. Owner of the answer: the caller, tcc_answer_free.
 */
#ifndef TCC_CTL_ADMIN_H
#define TCC_CTL_ADMIN_H

#include "command.h"

#include <cjson/cJSON.h>
#include <tcw/message.h>

struct tcc_answer {
    int code;    /* of the daemon: 0 or a negative tcw_errno */
    char *text;  /* as it came */
    cJSON *json; /* the text parsed, NULL if it is not JSON */
};

/* TCC_EXIT_OK: the daemon has answered, answer->code says how. Else the exit code, everything being said. */
tcc_exit tcc_admin_ask(struct tcc_session *session, const struct tcw_admin *question, struct tcc_answer *answer);
void tcc_answer_free(struct tcc_answer *answer);

/* What the daemon said if it refused, complaining; TCC_EXIT_OK if it did not. */
tcc_exit tcc_answer_check(struct tcc_session *session, const struct tcc_answer *answer);
/* {"schema_version", "command", "ok", "answer"} */
void tcc_answer_json(struct tcc_session *session, const struct tcc_answer *answer);

#endif
