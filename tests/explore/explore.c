/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs all scenarios: each as it is must hold, each twin must be found.  Then
 * the order check: each operation with an order is weakened to relaxed, and
 * some scenario must find that, or the operation stands in the list of those
 * that are known to be stronger than the scenarios can tell, with its reason.
 *
 * Usage: explore [scale [name]]: scale multiplies the executions of what must
 * hold; name, with * and ?, picks scenarios.
 * EXPLORE_TRACE=1 prints the steps by which each twin is found.
 */
#include "engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "known.h"

static const struct explore_scenario *const lists[] = {
	explore_selftest, explore_region, explore_cold, explore_bands,
	explore_nodes, explore_budget,
	explore_tree,
	explore_limit, explore_slab, explore_work_queue, explore_gate,
	explore_cache_entry, explore_cache_index, explore_cache_again,
	explore_cache, explore_cache_leave, explore_cache_load,
	explore_cache_migrate,
	explore_reclaim, explore_pin_slots, explore_pin_tags, explore_published,
	explore_section, explore_stash, explore_claim, explore_inbox,
	explore_region_again,
};

enum { LISTS = sizeof(lists) / sizeof(lists[0]), LONG_STEPS = 50 };

static const struct explore_scenario *scenarios[EXPLORE_SCENARIOS];
static bool holds[EXPLORE_SCENARIOS];	/* only these tell about orders */
static unsigned scenario_count;
static bool thorough;

static struct budget_of_search to_hold = { 40000, 5000, 5000 };
static const struct budget_of_search to_find = { 40000, 20000, 20000 };
static const struct budget_of_search to_glance = { 300, 200, 100 };
static const struct budget_of_search to_weaken = { 2000, 2000, 2000 };

static void collect(void)
{
	for (unsigned i = 0; i < LISTS; i++)
		for (unsigned k = 0; lists[i][k].name; k++) {
			assert_true(scenario_count < EXPLORE_SCENARIOS);
			scenarios[scenario_count++] = &lists[i][k];
		}
}

/* ---- each scenario ---- */

static void find_twin(const struct explore_scenario *s,
		      const struct explore_twin *twin)
{
	struct hunt h;

	mutate(twin);
	hunt(s, &to_find, &h);
	printf("    %-44s %s after %u (%s): %s\n", twin->name,
	       h.found ? "found" : "MISSED", h.executions, h.mode,
	       h.found ? engine.why : "");
	if (h.found && getenv("EXPLORE_TRACE"))
		hunt_print(s, &h);
	mutate(NULL);
	assert_true(h.found);
}

/* Long executions take long, so there are fewer of them. */
static struct budget_of_search budget_for(const struct explore_scenario *s)
{
	const struct budget_of_search one = { 1, 0, 0 };
	struct budget_of_search b = to_hold;
	struct hunt h;

	hunt(s, &one, &h);
	if (h.search.length > LONG_STEPS) {
		b.dfs = b.dfs / h.search.length * LONG_STEPS;
		b.random = b.random * LONG_STEPS / h.search.length;
		b.pct = b.pct * LONG_STEPS / h.search.length;
	}
	return b;
}

static void must_hold(const struct explore_scenario *s, bool *ret_holds)
{
	const struct budget_of_search budget = budget_for(s);
	struct hunt h;

	hunt(s, &budget, &h);
	printf("%-50s %u executions of up to %u steps, %u dfs levels "
	       "exhausted%s\n", s->name, h.executions, h.search.length,
	       h.exhausted, h.pruned ? ", some cut off" : "");
	if (h.found)
		hunt_print(s, &h);
	*ret_holds = !h.found;
	assert_false(h.found);
	assert_true(h.pruned < h.executions / 2);
}

static void must_fail(const struct explore_scenario *s)
{
	struct hunt h;

	hunt(s, &to_find, &h);
	printf("%-50s %s after %u (%s): %s\n", s->name,
	       h.found ? "broken" : "MISSED", h.executions, h.mode, engine.why);
	assert_true(h.found);
}

static void test_scenario(void **state)
{
	const unsigned index = *(const unsigned *)*state;
	const struct explore_scenario *s = scenarios[index];

	mutate_scenario(index);
	if (s->must_fail) {
		must_fail(s);
		return;
	}
	must_hold(s, &holds[index]);
	for (const struct explore_twin *t = s->twins; t && t->name; t++)
		find_twin(s, t);
}

/* ---- the order check ---- */

static bool finds(unsigned site, const struct explore_scenario *s,
		  const struct budget_of_search *budget, unsigned *executions)
{
	struct hunt h;

	mutate_relax(site);
	hunt(s, budget, &h);
	mutate(NULL);
	*executions += h.executions;
	return h.found;
}

/* The scenario that finds it, or NULL. */
static const char *finder(unsigned site, const struct budget_of_search *budget,
			  unsigned *executions)
{
	const bool *reached = site_info_at(site)->reached;

	for (unsigned i = 0; i < scenario_count; i++) {
		mutate_scenario(i);
		if (reached[i] && holds[i] &&
		    finds(site, scenarios[i], budget, executions))
			return scenarios[i]->name;
	}
	return NULL;
}

static bool is_known(const struct known *k, const struct explore_site *site)
{
	return mutate_matches(site, k->function, k->op) &&
	       (!k->nth || mutate_rank(site, k->function, k->op) == k->nth);
}

static const struct known *find_known(const struct known *list,
				      const struct explore_site *site)
{
	for (const struct known *k = list; k->function; k++)
		if (is_known(k, site))
			return k;
	return NULL;
}

static const struct known *known_site(const struct explore_site *site)
{
	const struct known *k = find_known(known_sites, site);

	return k || plain_in_use() ? k : find_known(known_plain_sites, site);
}

/* Run by a thread, and not a scenario's own. */
static bool belongs_to_library(unsigned site)
{
	const char *file = site_info_at(site)->site.file;
	const char *name = strrchr(file, '/');

	name = name ? name + 1 : file;
	return site_reached(site_info_at(site)) &&
	       strncmp(name, "scenario_", 9) != 0 &&
	       strcmp(name, "selftest.c") != 0;
}

/*
 * False: it should be in the list and is not, or the other way round.  What is
 * in the list is looked at shortly, unless there is more time than usual.
 */
static bool check_order(unsigned index)
{
	const struct explore_site *site = &site_info_at(index)->site;
	const struct known *known = known_site(site);
	unsigned executions = 0;
	const char *found = finder(index, &to_glance, &executions);

	if (!found && (!known || thorough))
		found = finder(index, &to_weaken, &executions);
	printf("  %-20s %4d %-20s %s%s%s (%u)\n", site->function, site->line,
	       site->op, found ? "needed by: " : "not needed: ",
	       found ? found : known ? known->reason : "NO REASON GIVEN",
	       found && known ? ", BUT LISTED" : "", executions);
	return !found != !known;
}

static void test_orders(void **state)
{
	unsigned sites = site_count();
	unsigned wrong = 0;

	(void)state;
	for (unsigned i = 0; i < sites; i++)
		if (site_info_at(i)->site.order != EXPLORE_relaxed &&
		    belongs_to_library(i))
			wrong += !check_order(i);
	assert_int_equal(wrong, 0);
}

/* An entry whose operation is gone would hide the next one there. */
static void check_list(const struct known *list)
{
	for (const struct known *k = list; k->function; k++) {
		bool met = false;

		for (unsigned i = 0; i < site_count(); i++)
			met |= is_known(k, &site_info_at(i)->site);
		if (!met)
			print_error("%s %s: no such operation\n", k->function,
				    k->op);
		assert_true(met);
	}
}

static void test_list(void **state)
{
	(void)state;
	check_list(known_sites);
	check_list(known_plain_sites);
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[EXPLORE_SCENARIOS + 2];
	static unsigned index[EXPLORE_SCENARIOS];
	unsigned scale = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
	unsigned n;

	/* Where tests are to be short: it is all or nothing. */
	if (getenv("TESTING_PERCENT")) {
		puts("SKIP: not with TESTING_PERCENT");
		return 77;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	collect();
	to_hold.dfs *= scale;
	to_hold.random *= scale;
	to_hold.pct *= scale;
	thorough = scale > 1;
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	printf("seed %llu\n", (unsigned long long)hunt_seed);
	for (n = 0; n < scenario_count; n++) {
		index[n] = n;
		tests[n] = (struct CMUnitTest){ scenarios[n]->name,
						test_scenario, NULL, NULL,
						&index[n] };
	}
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_orders);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_list);
	return _cmocka_run_group_tests("explore", tests, n, NULL, NULL);
}
