/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between PostgreSQL 15 and 19.  The only file that looks at
 *	  PG_VERSION_NUM.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_COMPAT_H
#define IS_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "iterable_sync needs PostgreSQL 15 or later"
#endif

/* varatt.h was split from postgres.h in 16 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Named wait events came with 17; before, there is one for all extensions. */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define is_wait_event(name) WaitEventExtensionNew(name)
#else
#include "utils/wait_event.h"
#define is_wait_event(name) PG_WAIT_EXTENSION
#endif

/* A WaitEventSet belongs to a memory context up to 16, then to an owner. */
#include "storage/latch.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
#if PG_VERSION_NUM >= 170000
#define is_create_wait_event_set(n) CreateWaitEventSet(NULL, n)
#else
#define is_create_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

/* Backends are told apart by the number of their PGPROC since 17. */
#if PG_VERSION_NUM >= 170000
#include "storage/procarray.h"
#define is_proc_of_transaction(vxid) ProcNumberGetProc((vxid).procNumber)
#else
#include "storage/sinvaladt.h"
#define is_proc_of_transaction(vxid) BackendIdGetProc((vxid).backendId)
#endif

/* A tranche of lightweight locks is born with its name since 19. */
#if PG_VERSION_NUM >= 190000
#define is_new_tranche(name) LWLockNewTrancheId(name)
#define is_name_tranche(id, name) ((void) (id))
#else
#define is_new_tranche(name) LWLockNewTrancheId()
#define is_name_tranche(id, name) LWLockRegisterTranche(id, name)
#endif

/* Access checks by object class came with 16. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#define is_foreign_server_aclcheck(oid, role, mode) \
	object_aclcheck(ForeignServerRelationId, oid, role, mode)
#define is_class_ownercheck(oid, role) \
	object_ownercheck(RelationRelationId, oid, role)
#define is_database_ownercheck(oid, role) \
	object_ownercheck(DatabaseRelationId, oid, role)
#define is_namespace_aclcheck(oid, role, mode) \
	object_aclcheck(NamespaceRelationId, oid, role, mode)
#else
#define is_namespace_aclcheck(oid, role, mode) \
	pg_namespace_aclcheck(oid, role, mode)
#define is_foreign_server_aclcheck(oid, role, mode) \
	pg_foreign_server_aclcheck(oid, role, mode)
#define is_class_ownercheck(oid, role) \
	pg_class_ownercheck(oid, role)
#define is_database_ownercheck(oid, role) \
	pg_database_ownercheck(oid, role)
#endif

/*
 * have_createdb_privilege() was exported with 16, and by a late minor release
 * of 15: a library built against that one must load into the earlier ones.
 */
#if PG_VERSION_NUM >= 160000
#include "commands/dbcommands.h"
#define is_may_create_databases() have_createdb_privilege()
#else
#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/syscache.h"
static inline bool
is_may_create_databases(void)
{
	HeapTuple	tuple;
	bool		result;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return result;
}
#endif

/* A database that DROP DATABASE left half; the first minor releases lack it. */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB (-2)
#endif

/* Module name and version in the magic block came with 18. */
#ifdef PG_MODULE_MAGIC_EXT
#define IS_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "iterable_sync", .version = IS_VERSION)
#else
#define IS_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* The old spelling left with 18; as a prefix both are taken everywhere. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Since 19 the compiler is told so that it takes no comment for it. */
#ifndef pg_fallthrough
#define pg_fallthrough __attribute__((fallthrough))
#endif

/* Virtual generated columns came with 18. */
#ifndef ATTRIBUTE_GENERATED_VIRTUAL
#define ATTRIBUTE_GENERATED_VIRTUAL 'v'
#endif

/* Since 18 a NOT NULL constraint may be NOT VALID, and attnotnull set. */
#if PG_VERSION_NUM >= 180000
#define is_attribute_not_null(desc, i) \
	(TupleDescAttr(desc, i)->attnotnull && \
	 TupleDescCompactAttr(desc, i)->attnullability != ATTNULLABLE_INVALID)
#else
#define is_attribute_not_null(desc, i) (TupleDescAttr(desc, i)->attnotnull)
#endif

/* Since 18 a descriptor has a short form of each attribute beside it. */
#if PG_VERSION_NUM >= 180000
#define is_tuple_desc_changed(desc, i) populate_compact_attribute(desc, i)
#else
#define is_tuple_desc_changed(desc, i) ((void) 0)
#endif

/* Infinite intervals came with 17. */
#include "datatype/timestamp.h"
#ifndef INTERVAL_NOT_FINITE
#define INTERVAL_NOT_FINITE(interval) false
#endif

/* ExecutorRun() lost an argument in 18. */
#if PG_VERSION_NUM >= 180000
#define is_executor_run(desc) ExecutorRun(desc, ForwardScanDirection, 0)
#else
#define is_executor_run(desc) ExecutorRun(desc, ForwardScanDirection, 0, true)
#endif

/* pg_plan_query() can explain what it did since 19. */
#if PG_VERSION_NUM >= 190000
#define is_plan_query(query, sql, params) pg_plan_query(query, sql, 0, params, NULL)
#else
#define is_plan_query(query, sql, params) pg_plan_query(query, sql, 0, params)
#endif

/* The lexer of a json value takes the place to put it since 17. */
#if PG_VERSION_NUM >= 170000
#define is_make_json_lexer(json) makeJsonLexContext(NULL, json, false)
#else
#define is_make_json_lexer(json) makeJsonLexContext(json, false)
#endif

#endif							/* IS_COMPAT_H */
