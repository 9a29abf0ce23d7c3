/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of segbench_work share.  One process measures one peer; what
 * it has measured it prints as lines of "workload class threads value".
 */
#ifndef SEGBENCH_WORK_H
#define SEGBENCH_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seg.h"

enum {
	MIXED = SEG_CLASSES,	/* as a class: one of the seven by chance */
	KINDS = SEG_CLASSES + 1,
	THREADS_MOST = 64,
	SIZES = 1024,		/* sizes drawn in advance, a power of two */
	PAGE_BYTES = 4096,
};

/* ------------------------------------------------- how much, set by main() */

struct settings {
	double run_ns;		/* one run of one measurement */
	uint64_t chunks;	/* if not 0: one run of so many chunks */
	uint64_t bytes;		/* of the workloads that fill memory */
	double patience_ms;	/* how long one waits for memory to go */
	bool cpu;		/* by the threads' CPU time, not the clock */
	const char *only_class;	/* NULL: all */
	int only_threads;	/* 0: all */
};
extern struct settings settings;
extern int cores;

_Noreturn void die(const char *what);
double now_ns(void);
bool wanted(int kind, int threads);
void print_figure(const char *workload, int kind, int threads, double value);

static inline size_t class_bytes(int kind)	/* not of MIXED */
{
	return (size_t)SEG_MIN_BYTES << kind;
}

static inline int class_of(size_t bytes)
{
	return bytes <= SEG_MIN_BYTES ? 0 :
	       64 - __builtin_clzll((bytes - 1) / SEG_MIN_BYTES);
}

/* 64 bits by chance, xorshift64*; the state is not 0. */
static inline uint64_t draw(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* ------------------------------------------------------------------- peers */

/* In whose order the arguments are: each peer is called as its users do. */
enum calls { CALLS_POOL, CALLS_MALLOC, CALLS_SIZED };

struct peer {
	const char *name;
	enum calls calls;
	void *(*get)(size_t bytes);
	void (*put)(void *segment);			/* CALLS_MALLOC */
	void (*put_sized)(void *segment, size_t bytes);	/* CALLS_SIZED */
	void (*start)(void);	/* before anything else; may be NULL */
	void (*purge)(void);	/* unused memory to the kernel; NULL: it can't,
				   or set by start */
	const char *symbol;	/* what must be preloaded */
	/* CALLS_POOL: */
	enum seg_huge_pages huge_pages;
	enum seg_ahead ahead;
	struct seg_pool *pool;
	void *(*pool_get)(struct seg_pool *pool, size_t bytes);
	int (*pool_put)(struct seg_pool *pool, void *segment);
};
extern struct peer *peer;	/* the one that is measured */
extern uint64_t limit_bytes;	/* of libseg's budget ... */
double most_charged_bytes(void);	/* ... and what was used of it */
struct peer *find_peer(const char *name);

/* The afternoon's magazines, and one shared pool per class to compare. */
void *magazine_get(size_t bytes);
void magazine_put(void *segment, size_t bytes);
void magazine_start(void);
void *mutex_get(size_t bytes);
void mutex_put(void *segment, size_t bytes);
void *ckstack_get(size_t bytes);
void ckstack_put(void *segment, size_t bytes);
/* Fresh memory of these, page aligned; and the number of a segment in it. */
void *carve(int class_index);
size_t carved_index(int class_index, const void *segment);

#define INLINED static inline __attribute__((always_inline))

/* With "calls" constant no test is left but for the result. */
INLINED char *get(const struct peer *p, enum calls calls, size_t bytes)
{
	char *segment = calls == CALLS_POOL ? p->pool_get(p->pool, bytes) :
			p->get(bytes);

	if (__builtin_expect(!segment, 0))
		die("out of memory");
	return segment;
}

INLINED void put(const struct peer *p, enum calls calls, void *segment,
		 size_t bytes)
{
	if (calls == CALLS_POOL)
		p->pool_put(p->pool, segment);
	else if (calls == CALLS_MALLOC)
		p->put(segment);
	else
		p->put_sized(segment, bytes);
}

/* The loop called name_loop, compiled once for each way of calling. */
#define COMPILED(name)                                                         \
	static __attribute__((noinline)) uint64_t                              \
	name##_loop_pool(struct worker *w)                                     \
	{                                                                      \
		return name##_loop(w, CALLS_POOL);                             \
	}                                                                      \
	static __attribute__((noinline)) uint64_t                              \
	name##_loop_malloc(struct worker *w)                                   \
	{                                                                      \
		return name##_loop(w, CALLS_MALLOC);                           \
	}                                                                      \
	static __attribute__((noinline)) uint64_t                              \
	name##_loop_sized(struct worker *w)                                    \
	{                                                                      \
		return name##_loop(w, CALLS_SIZED);                            \
	}                                                                      \
	static uint64_t name##_run(struct worker *w)                           \
	{                                                                      \
		return peer->calls == CALLS_POOL ? name##_loop_pool(w) :       \
		       peer->calls == CALLS_MALLOC ? name##_loop_malloc(w) :   \
		       name##_loop_sized(w);                                   \
	}

/* When the kind of call does not matter much: outside the measured loops. */
char *peer_get(size_t bytes);
void peer_put(void *segment, size_t bytes);

/* --------------------------------------------------- threads that run loops */

struct crew;

struct worker {
	struct crew *crew;
	int index;
	int run;		/* 0: to warm up */
	uint64_t random;
	size_t sizes[SIZES];	/* of the class, or mixed */
	void *own;		/* of the workload's prepare() */
	uint64_t operations, chunks;
	double began, ended, until;
};

struct crew {
	int kind, threads;
	unsigned count;		/* batch: how many are out at once */
	int how;		/* of the workload: an order, a touch */
	void *shared;
	void (*prepare)(struct worker *w);		/* may be NULL */
	uint64_t (*run)(struct worker *w);		/* operations */
	void (*finish)(struct worker *w);		/* may be NULL */
};

/* Core-ns per operation: the median of a few runs after one to warm up. */
double crew_figure(struct crew *crew);
/* All threads once; no figure. */
void crew_once(struct crew *crew);

/* At each chunk of operations: is there time for another?  For one always. */
static inline bool worker_goes_on(struct worker *w)
{
	uint64_t done = w->chunks++;

	if (settings.chunks)
		return done < settings.chunks;
	return done == 0 || now_ns() < w->until;
}

/* --------------------------------------------------------------- workloads */

void pair_workload(void);
void batch_workload(void);
void long_batch_workload(void);
void working_set_workload(void);
void handover_workload(void);
void release_workload(void);
void tail_workload(void);
void grow_workload(void);
void pace_workload(void);
void resident_workload(void);
void convert_workload(void);
void aligned_workload(void);

#endif
