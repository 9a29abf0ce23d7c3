/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commits: a writer hands its intent log over to the committer, one thread
 * that writes the pages to the store, returns all segments in one burst and
 * then makes the pages known to the readers.  It needs no segment for that,
 * so a commit goes through whatever the budget says.
 */
#ifndef INGEST_COMMIT_H
#define INGEST_COMMIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "ingest_memory.h"

struct job;

/* One log on its way; the writer's, but for the time while it is pending. */
struct handover {
	struct mem_log *log;
	struct handover *next;
	bool pending;		/* job->lock */
};

struct committer {
	struct job *job;
	pthread_t thread;
	struct handover *first;	/* the queue; job->lock */
	struct handover **last;
	uint64_t submitted;	/* logs handed over; job->lock */
	uint64_t done;		/* logs given back; job->lock */
	bool closed;		/* nothing will be added; job->lock */
	struct written *written;/* the committer's own from here on */
	size_t written_room;
	size_t written_count;
	char *buffer;
	size_t buffered;
	size_t left;		/* pairs of this commit not yet encoded */
};

/* Starts the thread.  Errors: -ENOMEM, -EAGAIN. */
int committer_start(struct committer *committer, struct job *job);

/* Waits for all that was handed over, and ends the thread. */
void committer_finish(struct committer *committer);

/* Hands a log over.  MT-Safe. */
void commit_submit(struct committer *committer, struct handover *handover);

/* Waits until the log is the writer's again.  MT-Safe. */
void commit_wait(struct committer *committer, struct handover *handover);

/*
 * Waits until some log was given back since the caller saw *done; but if none
 * is on its way only for a short time, as memory may come back in other ways.
 * Then *done is the new count.  True: it has changed.  MT-Safe.
 */
bool commit_wait_any(struct committer *committer, uint64_t *done);

#endif
