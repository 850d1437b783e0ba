-- What the model changes, and what it remembers of that: a change and its line
-- in model.history are one transaction, so the history holds what was committed
-- and has outlived every crash, and nothing else.

CREATE TABLE person (id int PRIMARY KEY, email text, ver int, token text, flip int, note text, unmapped int DEFAULT 0);
CREATE TABLE account (LIKE person INCLUDING ALL);
CREATE TABLE visit (LIKE person INCLUDING ALL);
CREATE TABLE toggle (LIKE person INCLUDING ALL);

-- of these three every version is sent: as one event a row, as an event each,
-- and as an event each that says nothing but which way the row has turned
CREATE TABLE entry (LIKE person INCLUDING ALL);
CREATE TABLE step (LIKE person INCLUDING ALL);
CREATE TABLE phase (LIKE person INCLUDING ALL);

CREATE SCHEMA model;

-- the version of a row goes on when the row is deleted and inserted again
CREATE TABLE model.slot (source text, id int, ver int NOT NULL, PRIMARY KEY (source, id));

CREATE TABLE model.history (
	source text, id int, ver int, xid xid8, token text, flip int, note text, present bool, at timestamptz);
CREATE INDEX ON model.history (source, id, ver);

-- Of persons, 31 and 32, 33 and 34 … are the same user, and the addresses of 41 to 44 are none.
CREATE FUNCTION model.email(source text, id int) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN source <> 'person' OR id <= 30 OR id > 44 THEN source || id || '@example.com'
	WHEN id > 40 THEN source || id
	WHEN id % 2 = 0 THEN upper(source) || id - 1 || '@Example.com'
	ELSE source || id || '@example.com'
END;

CREATE FUNCTION model.change(source text, id int, op text, token text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v int;
	touched bigint;
BEGIN
	INSERT INTO model.slot AS s VALUES (source, id, 1)
		ON CONFLICT ON CONSTRAINT slot_pkey DO UPDATE SET ver = s.ver + 1 RETURNING s.ver INTO v;
	IF op IN ('delete', 'replace') THEN
		EXECUTE format('DELETE FROM %I WHERE id = $1', source) USING id;
	ELSIF op = 'update' THEN
		EXECUTE format('UPDATE %I SET ver = $2, token = $3, flip = 1 - flip, note = CASE WHEN flip = 1 THEN repeat($3, $2 %% 7) END
			WHERE id = $1', source) USING id, v, token;
	ELSIF op = 'merge' THEN
		EXECUTE format('MERGE INTO %I t USING (VALUES ($1, $2, $3)) AS n (id, ver, token) ON t.id = n.id
			WHEN MATCHED AND n.ver %% 5 = 0 THEN DELETE
			WHEN MATCHED THEN UPDATE SET ver = n.ver, token = n.token, flip = 1 - t.flip
			WHEN NOT MATCHED THEN INSERT (id, email, ver, token, flip) VALUES (n.id, $4, n.ver, n.token, 0)', source)
			USING id, v, token, model.email(source, id);
	END IF;
	GET DIAGNOSTICS touched = ROW_COUNT;
	IF op IN ('upsert', 'replace') THEN
		EXECUTE format('INSERT INTO %I AS t (id, email, ver, token, flip) VALUES ($1, $4, $2, $3, 0)
			ON CONFLICT (id) DO UPDATE SET ver = $2, token = $3, flip = 1 - t.flip, note = $3', source)
			USING id, v, token, model.email(source, id);
		touched := 1;
	END IF;
	IF touched > 0 THEN
		EXECUTE format('INSERT INTO model.history
			SELECT $1, $2, $3, pg_current_xact_id(), $4, t.flip, t.note, t.id IS NOT NULL, clock_timestamp()
			FROM (VALUES ($2)) AS n (id) LEFT JOIN %I t ON t.id = n.id', source)
			USING source, id, v, token;
	END IF;
END
$$;

-- a level of its own for each, half of which are undone
CREATE FUNCTION model.change_or_not(source text, first int, last int, token text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR id IN first .. last LOOP
		BEGIN
			PERFORM model.change(source, id, 'upsert', token || '/' || id);
			IF id % 2 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END
$$;

CREATE FUNCTION model.turn_and_back(source text, id int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 2 LOOP
		EXECUTE format('UPDATE %I SET flip = 1 - flip WHERE id = $1', source) USING id;
	END LOOP;
END
$$;
