-- Who may connect, in the order in which the server looks.
SELECT concat_ws(' ', type, array_to_string(database, ','), array_to_string(user_name, ','), address, netmask,
                 auth_method, array_to_string(options, ' ')) AS line
  FROM pg_catalog.pg_hba_file_rules
 WHERE type IS NOT NULL
 ORDER BY line_number;
