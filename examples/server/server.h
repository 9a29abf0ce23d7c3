/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server's one object, and what the threads of the daemon do with it. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "store.h"

/* Grow only, but for sending; all of them are read for the figures only. */
struct counters {
	atomic_uint_fast64_t requests_total;
	atomic_uint_fast64_t files_total;	/* answered from memory */
	atomic_uint_fast64_t streamed_total;	/* ... from the file: too big */
	atomic_uint_fast64_t absent_total;	/* 404 */
	atomic_uint_fast64_t refused_total;	/* 503 */
	atomic_uint_fast64_t cut_total;		/* not sent to the end */
};

struct server {
	struct store store;
	struct counters counters;
	bool log_requests;
	/*
	 * Requests that were begun and are not over.  While draining, whoever
	 * ends the last one signals idle.
	 */
	atomic_uint_fast64_t sending;
	atomic_bool draining;
	pthread_mutex_t lock;
	pthread_cond_t idle;
};

static inline void count(atomic_uint_fast64_t *counter)
{
	/* relaxed: a counter */
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* A MHD_AccessHandlerCallback and a MHD_RequestCompletedCallback. */
enum MHD_Result answer_request(void *server, struct MHD_Connection *connection,
			       const char *url, const char *method,
			       const char *version, const char *upload_data,
			       size_t *upload_bytes, void **request);
void answer_ended(void *server, struct MHD_Connection *connection,
		  void **request, enum MHD_RequestTerminationCode how);

#endif
