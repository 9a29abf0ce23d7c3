/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sites of the operations, and what is mutated at them.  A site may be
 * there several times, for an inline function in several files: they are one.
 */
#include "engine.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { SITES = 1024 };

static struct site_info sites[SITES];
static unsigned count;
static const struct explore_twin *active;
static unsigned scenario_now;

static bool is_same(const struct explore_site *a, const struct explore_site *b)
{
	return a->line == b->line && !strcmp(a->function, b->function) &&
	       !strcmp(a->op, b->op);
}

bool mutate_matches(const struct explore_site *site, const char *function,
		    const char *op)
{
	return !strcmp(site->function, function) &&
	       (!op || !strncmp(site->op, op, strlen(op)));
}

unsigned mutate_rank(const struct explore_site *site, const char *function,
		     const char *op)
{
	int last = -1;
	unsigned n = 0;

	/* count the lines up to it, each once, in order */
	for (;;) {
		int next = INT_MAX;

		for (unsigned i = 0; i < count; i++)
			if (sites[i].site.line > last &&
			    sites[i].site.line < next &&
			    mutate_matches(&sites[i].site, function, op))
				next = sites[i].site.line;
		n++;
		if (next >= site->line)
			return n;
		last = next;
	}
}

static enum explore_mutation mutation_of(const struct explore_site *site)
{
	const struct explore_twin *t = active;

	if (!t || !t->function || !mutate_matches(site, t->function, t->op))
		return EXPLORE_NONE;
	if (t->nth && mutate_rank(site, t->function, t->op) != t->nth)
		return EXPLORE_NONE;
	return t->mutation;
}

static void apply_mutation(struct site_info *info)
{
	info->mutation = mutation_of(&info->site);
	info->kept = active ? active->kept : 0;
}

/* Statistics and hints: the newest value will do, and nobody waits for it. */
static const struct {
	const char *file, *function;
} counters[] = {
	{ "counter.h", "counter_add" },
	{ "counter.h", "counter_sum" },
	{ "counter.h", "gauge_add" },
	{ "counter.h", "gauge_raise_peak" },
	{ "counter.h", "gauge_sub" },
	{ "counter.h", "gauge_value" },
	{ "counter.h", "gauge_peak" },
	{ "cache.h", "cache_count" },
	{ "cache.h", "cache_mark" },
	{ "cache.h", "cache_mark_in" },
	{ "cache.h", "cache_note_eviction" },
	{ "cache_policy.c", "take_mark" },
	{ "cache_policy.c", "cache_policy_succeed" },
	{ "reclaim.c", "reclaim_ask" },
};

static bool is_counter(const struct explore_site *site)
{
	const char *slash = strrchr(site->file, '/');
	const char *file = slash ? slash + 1 : site->file;

	for (unsigned i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		if (!strcmp(file, counters[i].file) &&
		    !strcmp(site->function, counters[i].function))
			return true;
	return false;
}

static unsigned intern(struct explore_site *site)
{
	unsigned i = 0;

	while (i < count && !is_same(&sites[i].site, site))
		i++;
	if (i == count) {
		if (count++ == SITES)
			abort();
		sites[i].site = *site;
		sites[i].mutation = mutation_of(site);
		sites[i].counter = is_counter(site);
	}
	return i;
}

/* Counted in units of one, so that a static site begins as unknown. */
struct site_info *site_info(struct explore_site *site)
{
	struct site_info *info;

	if (!site->id)
		site->id = intern(site) + 1;
	info = &sites[site->id - 1];
	info->reached[scenario_now] |= engine.running;
	return info;
}

bool site_reached(const struct site_info *info)
{
	for (unsigned i = 0; i < EXPLORE_SCENARIOS; i++)
		if (info->reached[i])
			return true;
	return false;
}

struct site_info *site_info_at(unsigned index)
{
	return &sites[index];
}

unsigned site_count(void)
{
	return count;
}

void mutate(const struct explore_twin *twin)
{
	if (active && active->mutation == EXPLORE_SWITCH)
		active->throw(false);
	active = twin;
	for (unsigned i = 0; i < count; i++)
		apply_mutation(&sites[i]);
	if (twin && twin->mutation == EXPLORE_SWITCH)
		twin->throw(true);
}

void mutate_relax(unsigned index)
{
	mutate(NULL);
	sites[index].mutation = EXPLORE_RELAX;
}

void mutate_scenario(unsigned index)
{
	scenario_now = index;
}
