/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the server tells of itself, as text that free() takes; NULL: no memory.
 * MT-Safe.
 */
#ifndef SERVER_FIGURES_H
#define SERVER_FIGURES_H

#include <stddef.h>

#include "server.h"

/* {"server":{},"budget":{},"cache":{},"pins":[],"pool":{},"refusal":null} */
char *figures_json(struct server *server, size_t *ret_bytes);

/* The same for Prometheus, without the pins and the refusal. */
char *figures_prometheus(struct server *server, size_t *ret_bytes);

#endif
