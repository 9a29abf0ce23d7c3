/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Included by tests that count what one node does: there is one, whatever the
 * machine has. */
#ifndef TESTS_ONE_NODE_H
#define TESTS_ONE_NODE_H

#include "topology.h"

static bool no_nodes(struct numa_ids *ret_ids)
{
	(void)ret_ids;
	return false;
}

static __attribute__((constructor)) void use_one_node(void)
{
	static const struct numa_system one = { .allowed = no_nodes };

	topology_use(&one);
}

#endif
