/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sampler: a thread that looks at the memory every 20 ms, fails the job
 * if more is charged than the limit allows, shows the progress, and keeps the
 * samples for a CSV file and a picture.  The weight of a cache is not checked
 * here: with an unpin it may be too much for an instant; see caches_clear().
 */
#ifndef INGEST_TIMELINE_H
#define INGEST_TIMELINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct job;

struct sample {
	double ms;		/* since the start */
	uint64_t limit;
	uint64_t charged;
	uint64_t mapped;
	uint64_t active;	/* bytes */
	uint64_t deferred;
	uint64_t caches;	/* bytes that both caches keep */
	uint64_t pinned;	/* of these */
	uint64_t evicted;	/* calls of the listeners for it, so far */
};

/* What was seen of one cache. */
struct cache_peak {
	uint64_t weight;
	uint64_t pinned;
	uint64_t held;
};

struct timeline {
	struct job *job;
	pthread_t thread;
	pthread_mutex_t lock;	/* protects stop; innermost */
	pthread_cond_t stopped;
	bool stop;
	struct sample *samples;	/* the thread's until it has ended */
	size_t count;
	size_t room;
	uint64_t deferred_peak;
	struct cache_peak pages;
	struct cache_peak fragments;
	double job_end_ms;	/* when the work was done; the rest is decay */
};

/* Errors: -EAGAIN, no thread. */
int timeline_start(struct timeline *timeline, struct job *job);
void timeline_stop(struct timeline *timeline);
void timeline_free(struct timeline *timeline);

/*
 * The open calls are for before the run, see stream_open(); the write calls
 * for after it, they close the file.  Errors: what open(), write() or read()
 * say; timeline_read_csv() also -EINVAL, not a timeline, and -ENOMEM.
 */
int timeline_open_csv(const char *name, FILE **ret);
int timeline_write_csv(const struct timeline *timeline, FILE *file);
int timeline_read_csv(struct timeline *timeline, const char *name);

/* Draws the samples, and over them what another run had, if any. */
int svg_open(const char *name, FILE **ret);
int svg_write(const struct timeline *timeline, const struct timeline *overlay,
	      FILE *file);

#endif
