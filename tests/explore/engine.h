/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the explorer share; scenarios use explore.h alone. */
#ifndef ENGINE_H
#define ENGINE_H

#include "explore.h"
#include "fiber.h"

/*
 * Vector clocks.  Time 0 is the setup: it comes before everything.  seq_cst
 * is the place in the order of those operations that comes before, too.
 */
struct clock {
	uint16_t at[EXPLORE_THREADS];
	uint16_t seq_cst;
};

struct thread {
	struct fiber fiber;
	struct clock now;
	bool done;
	bool (*ready)(void *argument);	/* NULL: can run */
	void *argument;
	const char *waits_for;
	bool timed;			/* the wait may end by its time */
	bool timed_out;
	int priority;			/* PCT */
	unsigned sections;		/* read sections begun */
	unsigned nesting;
	struct clock left;		/* when the last one ended */
	bool inside;			/* see explore_inside() */
	struct frame *frames;		/* see explore_frames() */
};

enum { EXPLORE_SCENARIOS = 224 };

enum search_mode { SEARCH_DFS, SEARCH_RANDOM, SEARCH_PCT };

struct search {
	enum search_mode mode;
	unsigned preemptions;		/* DFS: at most */
	unsigned oddities;		/* DFS: at most */
	uint64_t seed;			/* random and PCT, of this execution */
	unsigned length;		/* PCT: steps to spread changes over */
};

enum verdict { VERDICT_OK, VERDICT_BROKEN, VERDICT_PRUNED };

struct engine {
	struct thread thread[EXPLORE_THREADS];
	unsigned threads;
	unsigned current;
	uint32_t execution;		/* counts; tells what is of this one */
	bool running;			/* threads run, not setup or post */
	unsigned outside;		/* whose the setup or post-check is */
	bool traced;
	char why[200];			/* of the last broken execution */
};

extern struct engine engine;

/* ---- engine.c ---- */

/* Around executions: a crash in one ends that execution only. */
void engine_begin(void);
void engine_end(void);
enum verdict engine_execute(const struct explore_scenario *scenario,
			    const struct search *search);
/* DFS: makes the next execution another one; false: there is no other. */
bool engine_next_path(void);
void engine_first_path(void);
/* One of 0..n-1; anything but 0 is an oddity, of which DFS allows few. */
unsigned engine_odd(unsigned n);
void engine_point(void);
void engine_count_outside(void);
bool engine_is_stack(const void *address);
/* Of the last execution. */
unsigned engine_steps(void);
void engine_trace(const struct explore_site *site, const char *how,
		  uint64_t value);

static inline struct thread *engine_self(void)
{
	return &engine.thread[engine.current];
}

static inline void clock_join(struct clock *into, const struct clock *from)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (from->at[i] > into->at[i])
			into->at[i] = from->at[i];
	if (from->seq_cst > into->seq_cst)
		into->seq_cst = from->seq_cst;
}

/* ---- memory.c ---- */

void memory_reset(void);
void memory_renew(struct explore_cell *cell);
void memory_barrier(unsigned thread);
/* As reading or writing the cell; true: it is a race. */
bool cell_races(struct explore_cell *cell, bool writes);

/* ---- mutate.c ---- */

struct site_info {
	struct explore_site site;	/* the first of its name */
	bool reached[EXPLORE_SCENARIOS];
	enum explore_mutation mutation;	/* now ... */
	uint64_t kept;			/* ... with which bits */
	bool counter;			/* orders nothing, no point */
};

struct site_info *site_info(struct explore_site *site);
struct site_info *site_info_at(unsigned index);
unsigned site_count(void);
/* Also holds for sites that are reached later; NULL: all as written. */
void mutate(const struct explore_twin *twin);
/* Only this site. */
void mutate_relax(unsigned index);
/* By any scenario. */
bool site_reached(const struct site_info *info);
bool mutate_matches(const struct explore_site *site, const char *function,
		    const char *op);
/* Which of the lines that match, from 1, as far as they were reached. */
unsigned mutate_rank(const struct explore_site *site, const char *function,
		     const char *op);
/* Sites reached from now on are noted as reached by this scenario. */
void mutate_scenario(unsigned index);

/* ---- world.c: RCU and the operating system ---- */

void world_reset(void);
/* What is wrong with an operation on that address now, or NULL. */
const char *world_misuse(const void *address);

/* ---- plain.c ---- */

/* Whether the library tells its plain accesses. */
bool plain_in_use(void);

/* ---- keeper.c ---- */

void keeper_reset(void);

/* ---- hunt.c ---- */

/* How many executions of each kind. */
struct budget_of_search {
	unsigned dfs, random, pct;
};

struct hunt {
	bool found;
	unsigned executions;
	unsigned pruned;
	unsigned exhausted;	/* DFS levels that were */
	const char *mode;	/* that found it */
	struct search search;	/* of the execution that did */
};

void hunt(const struct explore_scenario *scenario,
	  const struct budget_of_search *budget, struct hunt *ret_hunt);
/* Runs the last broken execution of a hunt again and prints each step. */
void hunt_print(const struct explore_scenario *scenario, const struct hunt *h);
extern const uint64_t hunt_seed;

#endif
