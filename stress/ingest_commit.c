/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ingest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUFFER ((size_t)1 << 20)

/* A fragment that is in the file, but not yet in the directory. */
struct written {
	uint64_t key;
	uint64_t at;
	uint32_t bytes;
};

static int flush(struct committer *committer)
{
	int rc = store_append(&committer->job->store, committer->buffer,
			      committer->buffered);

	committer->buffered = 0;
	return rc;
}

static int note_written(struct committer *committer, uint64_t key,
			uint64_t at, size_t bytes)
{
	size_t room = committer->written_room * 2 + 1024;
	struct written *written = committer->written;

	if (committer->written_count == committer->written_room) {
		written = realloc(written, room * sizeof(*written));
		if (!written)
			return -ENOMEM;
		committer->written = written;
		committer->written_room = room;
	}
	written[committer->written_count++] =
		(struct written){ key, at, (uint32_t)bytes };
	return 0;
}

/* Called for each pair; with the last one everything is in the file. */
static int write_pair(void *ctx, uint64_t key, const struct mem_page *complete,
		      const struct mem_page *modified)
{
	struct committer *committer = ctx;
	struct store *store = &committer->job->store;
	struct page_entry entry;
	size_t bytes;
	int rc = 0;

	if (committer->buffered > BUFFER - SEG_MAX_BYTES)
		rc = flush(committer);
	if (rc)
		return rc;
	store_entry(store, key, &entry);
	bytes = fragment_encode(committer->job->mem, key, entry.fragments,
				complete, modified,
				committer->buffer + committer->buffered);
	rc = note_written(committer, key, store->end + committer->buffered,
			  bytes);
	committer->buffered += bytes;
	if (rc == 0 && --committer->left == 0)
		rc = flush(committer);
	return rc;
}

/* In this order, see struct page_entry. */
static void publish(struct committer *committer)
{
	struct job *job = committer->job;
	size_t i;

	for (i = 0; i < committer->written_count; i++)
		store_publish(&job->store, committer->written[i].key,
			      committer->written[i].at,
			      committer->written[i].bytes);
	for (i = 0; i < committer->written_count; i++)
		caches_changed(job, committer->written[i].key);
	for (i = 0; i < committer->written_count; i++)
		store_reveal(&job->store, committer->written[i].key);
	tally_add(&job->tally.commits, 1);
	tally_add(&job->tally.fragments, committer->written_count);
}

static void commit(struct committer *committer, struct mem_log *log)
{
	struct job *job = committer->job;
	const struct mem_ops *ops = job->mem->ops;
	int rc = -ECANCELED;

	committer->written_count = 0;
	committer->buffered = 0;
	committer->left = ops->log_count(log);
	if (!job_failed(job)) {
		rc = ops->log_commit(log, write_pair, committer);
		if (rc)
			job_fail(job, "cannot write to the store %s: %s",
				 job->store.name, strerror(-rc));
	}
	if (rc == 0)
		publish(committer);
	else if (ops->log_abort(log))
		job_fail(job, "an intent log could not be aborted");
}

/* NULL: closed and empty. */
static struct handover *next_handover(struct committer *committer)
{
	struct job *job = committer->job;
	struct handover *handover;

	pthread_mutex_lock(&job->lock);
	while (!committer->first && !committer->closed)
		pthread_cond_wait(&job->changed, &job->lock);
	handover = committer->first;
	if (handover) {
		committer->first = handover->next;
		if (!committer->first)
			committer->last = &committer->first;
	}
	pthread_mutex_unlock(&job->lock);
	return handover;
}

static void *committer_run(void *arg)
{
	struct committer *committer = arg;
	struct job *job = committer->job;
	struct handover *handover;

	while ((handover = next_handover(committer))) {
		commit(committer, handover->log);
		pthread_mutex_lock(&job->lock);
		handover->pending = false;
		committer->done++;
		pthread_cond_broadcast(&job->changed);
		pthread_mutex_unlock(&job->lock);
	}
	return NULL;
}

int committer_start(struct committer *committer, struct job *job)
{
	int rc;

	*committer = (struct committer){ .job = job };
	committer->last = &committer->first;
	committer->buffer = malloc(BUFFER);
	if (!committer->buffer)
		return -ENOMEM;
	rc = pthread_create(&committer->thread, NULL, committer_run,
			    committer);
	if (rc)
		free(committer->buffer);
	return -rc;
}

void committer_finish(struct committer *committer)
{
	struct job *job = committer->job;

	pthread_mutex_lock(&job->lock);
	committer->closed = true;
	pthread_cond_broadcast(&job->changed);
	pthread_mutex_unlock(&job->lock);
	pthread_join(committer->thread, NULL);
	free(committer->buffer);
	free(committer->written);
}

void commit_submit(struct committer *committer, struct handover *handover)
{
	struct job *job = committer->job;

	pthread_mutex_lock(&job->lock);
	handover->pending = true;
	committer->submitted++;
	handover->next = NULL;
	*committer->last = handover;
	committer->last = &handover->next;
	pthread_cond_broadcast(&job->changed);
	pthread_mutex_unlock(&job->lock);
}

void commit_wait(struct committer *committer, struct handover *handover)
{
	struct job *job = committer->job;

	pthread_mutex_lock(&job->lock);
	while (handover->pending)
		pthread_cond_wait(&job->changed, &job->lock);
	pthread_mutex_unlock(&job->lock);
}

bool commit_wait_any(struct committer *committer, uint64_t *done)
{
	struct job *job = committer->job;
	struct timespec until;
	bool changed;
	int rc = 0;

	until = time_in_ms(10);
	pthread_mutex_lock(&job->lock);
	while (committer->done == *done && rc == 0)
		rc = pthread_cond_timedwait(&job->changed, &job->lock, &until);
	while (committer->done == *done &&
	       committer->submitted > committer->done)
		pthread_cond_wait(&job->changed, &job->lock);
	changed = committer->done != *done;
	*done = committer->done;
	pthread_mutex_unlock(&job->lock);
	return changed;
}
