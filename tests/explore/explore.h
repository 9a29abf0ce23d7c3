/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interleaving explorer: runs a scenario of two to four threads over the
 * library's own source again and again, each time with other decisions about
 * who runs next and which store a load reads.
 *
 * Memory is that of C11 without consume, as far as an execution in one order
 * can show it: a load reads any store that coherence and happens-before allow,
 * a failing compare-exchange is a load, a weak one may fail for nothing, only
 * read-modify-writes carry a release sequence on, and seq_cst operations have
 * one order.  Not shown: a store that is done before an earlier load or store
 * of its thread, other than by loads that read old values; so a
 * read-modify-write, which always reads the newest store, sees it all in order.
 * Plain data of scenarios is race-checked cells, that of the library is checked
 * where the compiler tells of it (plain.c); RCU is modelled by its contract, a
 * futex by a wait that nothing but a wake ends: a lost wake-up is a deadlock,
 * membarrier(2) by a full barrier of each thread, at a moment of its own.
 *
 * A search tries all executions of up to N preemptions and M oddities (stale
 * reads, spurious failures) in order, then random ones, then PCT.  Everything
 * is counted in executions, never in time, so a run can be repeated.
 *
 * Progress of the explorer itself: one process, one thread, no recursion.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "explore_atomic.h"

enum { EXPLORE_THREADS = 4 };

/* ---- in a scenario ---- */

/* Ends the execution: it is broken. */
void explore_fail(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* What the library's seg_die() may come to. */
_Noreturn void explore_die(const char *what);

#define explore_check(expr)                                                    \
	do {                                                                   \
		if (!(expr))                                                   \
			explore_fail("%s:%d: %s", __func__, __LINE__, #expr);  \
	} while (0)

/* Race-checked plain data, all zeros at the start of each execution. */
struct explore_cell {
	uint64_t value;
	uint32_t execution;
	uint16_t write_time;
	uint16_t read_time[EXPLORE_THREADS];
	uint8_t writer;
	bool freed;
};

uint64_t explore_read(struct explore_cell *cell);
void explore_write(struct explore_cell *cell, uint64_t value);
/* As a write; any access after it is a use after free. */
void explore_free(struct explore_cell *cell);

/* Where the first of them is. */
#define EXPLORE_FIRST_REGION ((uintptr_t)1 << 40)
/* The cell of a page that os_map() gave with an alignment of regions. */
struct explore_cell *explore_contents(const void *address);

/* Statistics, of this execution: no scheduling point, and always the newest. */
void explore_counter(const struct explore_word *word);
/* The same for all words there, which the scenario is not about. */
void explore_counters(const void *from, size_t bytes);

/* In a setup or a post-check: it is that thread's, until the next one. */
void explore_as(unsigned thread);

/* A scheduling point without an operation. */
void explore_pause(void);
/* Lets another thread go first. */
void explore_yield(void);
/* Blocks for as long as ready(argument) is false. */
void explore_wait(bool (*ready)(void *argument), void *argument,
		  const char *what);

/* What os_map() would still give; then it fails. */
extern unsigned explore_maps_left;
/* No address is mapped twice. */
extern bool explore_new_addresses;
/* What os_discard() would still do; then it fails. */
extern unsigned explore_advices_left;
/* What may still be reported as misuse; then it is a failure. */
extern unsigned explore_misuses_left;
/* What os_membarrier() would still do; then it fails. */
extern unsigned explore_barriers_left;
/* Whether sleeps may end by their time when nobody else can run. */
extern bool explore_timeouts;
/* The clock of each thread; it stands still. */
extern uint64_t explore_now_ns[EXPLORE_THREADS];

/* ---- keeper.c: the keeper, as far as scenarios need it ---- */

/* Does what was deferred, after one grace period; false: there was nothing. */
bool explore_keeper_run(void);
/* The keeper as a thread, until so many others called explore_finish(). */
void explore_keeper(uint32_t others);
void explore_finish(void);

/* The library's one thread-local flag, which fibers would share. */
bool *explore_inside(void);

/* ---- scenarios ---- */

enum explore_mutation {
	EXPLORE_NONE,
	EXPLORE_RELAX,	/* the order is relaxed */
	EXPLORE_SPLIT,	/* compare, then add the difference: not in one step */
	EXPLORE_BLIND,	/* a compare-exchange that always stores */
	EXPLORE_KEEP,	/* an exchange leaves some bits as they were */
	EXPLORE_ONLY,	/* a compare-exchange compares only some bits */
	EXPLORE_SKIP,	/* nothing is stored or woken; a load gives 0 */
	EXPLORE_STALE,	/* a load gives what its thread saw there before */
	EXPLORE_SWITCH	/* a switch is thrown, no site concerned */
};

/* A broken twin: the same source with one thing mutated. */
struct explore_twin {
	const char *name;
	enum explore_mutation mutation;
	const char *function;	/* where; all sites in it whose op ... */
	const char *op;		/* ... begins so; NULL: any */
	unsigned nth;		/* only the nth such line, from 1; 0: all */
	uint64_t kept;		/* EXPLORE_KEEP, EXPLORE_ONLY: the bits */
	void (*throw)(bool on);	/* EXPLORE_SWITCH */
};

#define EXPLORE_TWIN(called, what, where, begins)                              \
	{ .name = called, .mutation = EXPLORE_##what, .function = where,       \
	  .op = begins }
#define EXPLORE_TWIN_KEEP(called, where, begins, bits)                         \
	{ .name = called, .mutation = EXPLORE_KEEP, .function = where,         \
	  .op = begins, .kept = bits }
#define EXPLORE_TWIN_ONLY(called, where, begins, bits)                         \
	{ .name = called, .mutation = EXPLORE_ONLY, .function = where,         \
	  .op = begins, .kept = bits }
#define EXPLORE_TWIN_SWITCH(called, thrower)                                   \
	{ .name = called, .mutation = EXPLORE_SWITCH, .throw = thrower }

struct explore_scenario {
	const char *name;
	unsigned threads;
	void (*setup)(void);		/* alone, before */
	void (*body)(unsigned thread);
	void (*post)(void);		/* alone, after; may be NULL */
	const struct explore_twin *twins;	/* ends with a NULL name */
	bool must_fail;			/* only in the self-test */
};

/* Lists that end with a NULL name, one for each file. */
extern const struct explore_scenario explore_selftest[];
extern const struct explore_scenario explore_region[];
extern const struct explore_scenario explore_cold[];
extern const struct explore_scenario explore_nodes[];
extern const struct explore_scenario explore_bands[];
extern const struct explore_scenario explore_budget[];
extern const struct explore_scenario explore_limit[];
extern const struct explore_scenario explore_tree[];
extern const struct explore_scenario explore_slab[];
extern const struct explore_scenario explore_work_queue[];
extern const struct explore_scenario explore_gate[];
extern const struct explore_scenario explore_published[];
extern const struct explore_scenario explore_cache_entry[];
extern const struct explore_scenario explore_cache_index[];
extern const struct explore_scenario explore_cache_again[];
extern const struct explore_scenario explore_cache[];
extern const struct explore_scenario explore_cache_leave[];
extern const struct explore_scenario explore_cache_load[];
extern const struct explore_scenario explore_cache_migrate[];
extern const struct explore_scenario explore_reclaim[];
extern const struct explore_scenario explore_pin_slots[];
extern const struct explore_scenario explore_pin_tags[];
extern const struct explore_scenario explore_section[];
extern const struct explore_scenario explore_stash[];
extern const struct explore_scenario explore_claim[];
extern const struct explore_scenario explore_inbox[];
extern const struct explore_scenario explore_region_again[];

/* Switches for twins. */
extern uint64_t explore_tag_one;	/* REGION_TAG_ONE of the library */
extern bool explore_no_grace_period;
void explore_throw_tag(bool on);
void explore_throw_grace_period(bool on);
/* os_membarrier() does nothing, and says that it did. */
void explore_throw_barrier(bool on);

#endif
