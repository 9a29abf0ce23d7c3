/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks for an execution that breaks a scenario: DFS in levels of more and
 * more preemptions and oddities, then random walks, then PCT (random
 * priorities with a few changes).  The first one that breaks ends the hunt.
 */
#include "engine.h"

#include <stdio.h>

const uint64_t hunt_seed = 20250101;

static const struct {
	const char *name;
	unsigned preemptions, oddities;
} levels[] = {
	{ "dfs 0+0", 0, 0 },
	{ "dfs 1+1", 1, 1 },
	{ "dfs 2+0", 2, 0 },
	{ "dfs 2+1", 2, 1 },
	{ "dfs 2+2", 2, 2 },
};

enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

/* Splitmix: seeds of neighbouring executions must not be alike. */
static uint64_t seed_of(unsigned execution)
{
	uint64_t z = hunt_seed + (execution + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static bool try_one(const struct explore_scenario *s, struct hunt *h)
{
	enum verdict verdict = engine_execute(s, &h->search);

	h->executions++;
	h->pruned += verdict == VERDICT_PRUNED;
	if (engine_steps() > h->search.length)
		h->search.length = engine_steps();
	h->found = verdict == VERDICT_BROKEN;
	return h->found;
}

/* False: found, or the budget is spent. */
static bool hunt_level(const struct explore_scenario *s, struct hunt *h,
		       unsigned level, unsigned *left)
{
	h->mode = levels[level].name;
	h->search.mode = SEARCH_DFS;
	h->search.preemptions = levels[level].preemptions;
	h->search.oddities = levels[level].oddities;
	engine_first_path();
	while (*left) {
		--*left;
		if (try_one(s, h))
			return false;
		if (!engine_next_path()) {
			h->exhausted++;
			return true;
		}
	}
	return false;
}

static void hunt_random(const struct explore_scenario *s, struct hunt *h,
			enum search_mode mode, const char *name, unsigned n)
{
	h->search.mode = mode;
	h->mode = name;
	for (unsigned i = 0; i < n && !h->found; i++) {
		unsigned length = h->search.length;

		h->search.seed = seed_of(i);
		if (try_one(s, h))
			h->search.length = length;	/* for hunt_print() */
	}
}

void hunt(const struct explore_scenario *s,
	  const struct budget_of_search *budget, struct hunt *h)
{
	unsigned left = budget->dfs;
	unsigned level = 0;

	*h = (struct hunt){ .search.seed = 1 };
	engine_begin();
	while (level < LEVELS && hunt_level(s, h, level, &left))
		level++;
	if (!h->found)
		hunt_random(s, h, SEARCH_RANDOM, "random", budget->random);
	if (!h->found)
		hunt_random(s, h, SEARCH_PCT, "pct", budget->pct);
	engine_end();
}

void hunt_print(const struct explore_scenario *s, const struct hunt *h)
{
	printf("  %s, by %s:\n", engine.why, h->mode);
	engine.traced = true;
	engine_begin();
	engine_execute(s, &h->search);
	engine_end();
	engine.traced = false;
	fflush(stdout);
}
