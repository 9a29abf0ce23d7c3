/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ingest, the main job: real files are cut into records, packed into leaf
 * pages by many writers, committed to a page store in bursts by another
 * thread, fetched back by readers and compared with the input, all of it in
 * segments of one pool under one budget.  Only <seg.h> is used.
 *
 * Files, bottom to top:
 *   ingest_memory*  where pages come from: libseg, or the model "before"
 *   ingest_cache_seg, _before   and their caches
 *   ingest_input    the files as one range of bytes, cut into records
 *   ingest_leaf     a leaf page: a slot segment and an id segment
 *   ingest_store    fragments of pages in a file, and the page directory
 *   ingest_cache    PageCache and RecordPageCache in front of it
 *   ingest_commit   the hand-over queue and the thread that commits
 *   ingest_writer, ingest_reader   the threads
 *   ingest_timeline, ingest_svg, ingest_report   what one sees
 *   ingest_options, ingest.c       the program
 */
#ifndef INGEST_H
#define INGEST_H

#include <pthread.h>
#include <seg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ingest_cache.h"
#include "ingest_commit.h"
#include "ingest_input.h"
#include "ingest_memory.h"
#include "ingest_store.h"

struct options {
	char **files;
	unsigned file_count;
	uint64_t budget_bytes;
	uint64_t page_cache_bytes;
	uint64_t record_cache_bytes;
	unsigned writers;
	unsigned readers;
	unsigned epoch;			/* pairs of pages in one commit */
	unsigned records_per_page;
	unsigned seconds;		/* 0: one pass */
	unsigned decay_ms;
	unsigned wait_ms;
	uint64_t seed;
	const char *store;		/* NULL: a file without a name */
	const char *svg;
	const char *csv;		/* the timeline's samples */
	const char *overlay;		/* such a file, of the run to compare */
	const char *log;
	bool log_segments;
	bool short_reads;
	bool before;
	bool all_classes;
	bool quiet;
};

/* Growing figures of the whole run, all relaxed: nothing hangs on them. */
struct tally {
	_Atomic uint64_t records;
	_Atomic uint64_t bytes;		/* packed into pages */
	_Atomic uint64_t pages;
	_Atomic uint64_t fragments;
	_Atomic uint64_t reopened;	/* pages taken to be continued */
	_Atomic uint64_t taken_whole;	/* of these: out of the cache */
	_Atomic uint64_t take_removes;	/* hidden, as readers had them pinned */
	_Atomic uint64_t commits;
	_Atomic uint64_t early_commits;	/* because memory was refused */
	_Atomic uint64_t reads;		/* pages fetched during the ingest */
	_Atomic uint64_t peeks;		/* of these: without a pin */
	_Atomic uint64_t read_skips;	/* given up for want of memory */
	_Atomic uint64_t gated;		/* times that a thread went alone */
	_Atomic uint64_t verified_pages;
	_Atomic uint64_t verified_bytes;
	_Atomic uint64_t passes;
	_Atomic uint64_t ingest_ns;	/* time of the ingest phases */
	_Atomic uint64_t verify_ns;
};

enum job_stop { JOB_RUNS, JOB_CUT, JOB_FAILED };
enum job_phase { JOB_INGESTS, JOB_VERIFIES, JOB_DECAYS };

struct job {
	const struct options *options;
	struct mem *mem;
	struct input input;
	struct store store;
	struct caches caches;
	struct committer committer;
	struct tally tally;
	uint64_t start_ns;
	_Atomic int stop;		/* enum job_stop, only grows */
	_Atomic int phase;		/* enum job_phase, grows in a pass */
	_Atomic uint64_t verify_next;	/* the next page to be checked */
	_Atomic uint64_t cover;		/* see input_cover() */
	_Atomic uint64_t cover_bytes;
	pthread_mutex_t gate;		/* outermost; see job_gate() */
	pthread_mutex_t lock;		/* innermost; protects the next two */
	pthread_cond_t changed;		/* with every change that one awaits */
	char message[256];		/* why the job failed */
};

/* How the old way ends, sooner or later. */
#define OUT_OF_MEMORY "out of memory: no segment of the class is left, " \
	"and what the caches keep never comes back"

/* How long a thread waits at the limit for something to move. */
static inline uint64_t job_patience_ns(const struct job *job)
{
	/* nothing ever comes back in the old way: why wait */
	return job->options->before ? 500000000u : UINT64_C(20000000000);
}

/* ------------------------------------------------------------- ingest.c */

/* Ends the job with a message; the first one counts.  MT-Safe. */
void job_fail(struct job *job, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Looks for signals and the end of the time; called with every sample. */
void job_tick(struct job *job, uint64_t now);

/* No more input is taken; what was taken is finished. */
void job_cut(struct job *job);

/* Tells all who wait for changed to look again. */
void job_changed(struct job *job);

static inline bool job_failed(struct job *job)
{
	/* relaxed: a flag; the message is read after the threads' end */
	return atomic_load_explicit(&job->stop, memory_order_relaxed) ==
	       JOB_FAILED;
}

static inline void tally_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t tally_get(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* A thread's own random numbers (splitmix64). */
static inline uint64_t random_next(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return input_mix(*state);
}

/*
 * The gate: a thread that was refused memory while it held none goes on
 * alone.  All who are refused end up waiting here with nothing in their
 * hands, so the one inside can have the whole budget: no budget above the
 * least one can starve the job for ever.
 */
void job_gate(struct job *job);
void job_ungate(struct job *job);

/* --------------------------------------------------------------- threads */

/* Packs records into pages until there is no input; arg: struct worker. */
void *writer_run(void *arg);

/* Fetches pages, at random and then all of them; arg: struct worker. */
void *reader_run(void *arg);

struct worker {
	struct job *job;
	unsigned number;
	uint64_t seed;
};

#endif
